#include <WiFi.h>
#include <WebSocketsClient.h>

WebSocketsClient webSocket;
long long handled = 0;           // The highest id; in Preferences it survives a restart.
unsigned long advised_ms = 0;    // The server's advice for the next connection.
unsigned long longest_ms = 1000; // The random time that is added to it.

// The last field of a message is its id: `…,"id":42}`. Replies and events have none: 0.
long long idOf(const char *text) {
  const char *last = strrchr(text, ',');
  return last && strncmp(last, ",\"id\":", 6) == 0 ? atoll(last + 6) : 0;
}

void onMessage(const char *text) {
  long long id = idOf(text);
  if (id == 0 || id > handled) {
    Serial.println(text);
  }
  if (id > 0) {
    // After the work: a message that is not acknowledged comes again, and is skipped above if it was handled.
    handled = id > handled ? id : handled;
    char ack[64];
    snprintf(ack, sizeof ack, "{\"type\":\"ack\",\"message\":{\"id\":%lld}}", id);
    webSocket.sendTXT(ack);
  }
}

void onEvent(WStype_t type, uint8_t *payload, size_t length) {
  const char *text = (const char *) payload;
  if (type == WStype_CONNECTED) {
    advised_ms = 0;
    longest_ms = 1000;
  } else if (type == WStype_TEXT && strncmp(text, "{\"type\":\"disconnect\"", 20) == 0) {
    // Advice before a close. Without a good token, or with a client too many, come back once an hour.
    const char *after = strstr(text, "\"retry_after\":");
    advised_ms = strstr(text, "\"reconnect\":false") ? 3600000 : after ? (unsigned long) (atof(after + 14) * 1000) : 0;
  } else if (type == WStype_TEXT) {
    onMessage(text);
  } else if (type == WStype_DISCONNECTED) {
    // A random time, and a longer one after each failure: the default, every 500 ms, is many requests for a server that is away.
    webSocket.setReconnectInterval(advised_ms + random(longest_ms));
    longest_ms = longest_ms * 2 < 60000 ? longest_ms * 2 : 60000;
  }
}

void setup() {
  Serial.begin(115200);
  WiFi.begin("network", "password");
  while (WiFi.status() != WL_CONNECTED) {
    delay(200);
  }
  webSocket.begin("192.168.1.10", 8000, "/ws/device/?client=lamp&ack=client&max_bytes=15360", "qy-lty.v1");
  webSocket.setAuthorization("Token qlt_TOKEN");
  webSocket.onEvent(onEvent);
  // Notices a server that has vanished: a ping every 30 s, and two pongs that are missing.
  webSocket.enableHeartbeat(30000, 10000, 2);
}

void loop() {
  webSocket.loop();

  static unsigned long said = 0;
  if (webSocket.isConnected() && millis() - said > 60000) {
    said = millis();
    webSocket.sendTXT("{\"type\":\"weather\",\"message\":{\"city\":\"上海\"}}");
  }
}
