// The interface of ArduinoWebsockets 0.5 (gilmaimon) as far as clients/esp32 uses it, as declarations.
#pragma once
#include "Arduino.h"
#include <functional>

namespace websockets {
class WebsocketsMessage {
public:
  String data() const;
};

class WebsocketsClient {
public:
  void onMessage(const std::function<void(WebsocketsMessage)> callback);
  void addHeader(const String key, const String value);
  bool connect(const String url);
  bool available(const bool test = false);
  bool poll();
  bool send(const String data);
};
} // namespace websockets
