// The Wi-Fi of the ESP32 core, as declarations.
#pragma once
#include "Arduino.h"

enum wl_status_t { WL_IDLE_STATUS = 0, WL_CONNECTED = 3, WL_DISCONNECTED = 6 };

class WiFiClass {
public:
  wl_status_t begin(const char *network, const char *password);
  wl_status_t status();
};
extern WiFiClass WiFi;
