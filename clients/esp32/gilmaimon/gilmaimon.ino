#include <WiFi.h>
#include <ArduinoWebsockets.h>

using namespace websockets;

WebsocketsClient client;
long long handled = 0;           // The highest id; in Preferences it survives a restart.
unsigned long tried = 0;
unsigned long pause_ms = 0;      // Up to the next connection.
unsigned long longest_ms = 1000; // The random part of it.

// The last field of a message is its id: `…,"id":42}`. Replies and events have none: 0.
long long idOf(const char *text) {
  const char *last = strrchr(text, ',');
  return last && strncmp(last, ",\"id\":", 6) == 0 ? atoll(last + 6) : 0;
}

void onMessage(WebsocketsMessage message) {
  String data = message.data();
  const char *text = data.c_str();
  if (strncmp(text, "{\"type\":\"disconnect\"", 20) == 0) {
    // Advice before a close. Without a good token, or with a client too many, come back once an hour.
    const char *after = strstr(text, "\"retry_after\":");
    pause_ms = strstr(text, "\"reconnect\":false") ? 3600000 : after ? (unsigned long) (atof(after + 14) * 1000) : 0;
    pause_ms += random(longest_ms);
    tried = millis();
    return;
  }
  long long id = idOf(text);
  if (id == 0 || id > handled) {
    Serial.println(text);
  }
  if (id > 0) {
    // After the work: a message that is not acknowledged comes again, and is skipped above if it was handled.
    handled = id > handled ? id : handled;
    char ack[64];
    snprintf(ack, sizeof ack, "{\"type\":\"ack\",\"message\":{\"id\":%lld}}", id);
    client.send(ack);
  }
}

void setup() {
  Serial.begin(115200);
  WiFi.begin("network", "password");
  while (WiFi.status() != WL_CONNECTED) {
    delay(200);
  }
  client.onMessage(onMessage);
  client.addHeader("Authorization", "Token qlt_TOKEN");
  client.addHeader("Sec-WebSocket-Protocol", "qy-lty.v1");
}

void loop() {
  if (client.available()) {
    client.poll();
  } else if (millis() - tried >= pause_ms) {
    // The library does not reconnect by itself. A random time, and a longer one after each failure.
    bool connected = client.connect("ws://192.168.1.10:8000/ws/device/?client=lamp&ack=client&max_bytes=8192");
    longest_ms = connected ? 1000 : longest_ms * 2 < 60000 ? longest_ms * 2 : 60000;
    pause_ms = random(longest_ms);
    tried = millis();
    if (connected) {
      client.send("{\"type\":\"ping\"}");
    }
  }
}
