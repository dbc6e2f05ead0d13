// The interface of arduinoWebSockets 2.7 (Links2004) as far as clients/esp32 uses it, as declarations.
#pragma once
#include "Arduino.h"
#include <functional>

typedef enum {
  WStype_ERROR,
  WStype_DISCONNECTED,
  WStype_CONNECTED,
  WStype_TEXT,
  WStype_BIN,
} WStype_t;

class WebSocketsClient {
public:
  typedef std::function<void(WStype_t type, uint8_t *payload, size_t length)> WebSocketClientEvent;
  void begin(const char *host, uint16_t port, const char *url = "/", const char *protocol = "arduino");
  void loop();
  void onEvent(WebSocketClientEvent event);
  bool sendTXT(const char *payload, size_t length = 0);
  bool isConnected();
  void setAuthorization(const char *value);
  void setReconnectInterval(unsigned long milliseconds);
  void enableHeartbeat(uint32_t interval, uint32_t timeout, uint8_t missing);
};
