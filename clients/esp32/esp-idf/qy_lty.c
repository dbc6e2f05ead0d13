#include <stdlib.h>
#include <string.h>
#include "esp_event.h"
#include "esp_log.h"
#include "esp_random.h"
#include "esp_websocket_client.h"

static const char *TAG = "qy-lty";
static char message[8 * 1024 + 1];
static long long handled; /* The highest id; in NVS it survives a restart. */

/* The last field of a message is its id: `…,"id":42}`. Replies and events have none: 0. */
static long long id_of(const char *text)
{
    const char *last = strrchr(text, ',');
    return last && strncmp(last, ",\"id\":", 6) == 0 ? atoll(last + 6) : 0;
}

static void on_message(esp_websocket_client_handle_t client, const char *text)
{
    if (strncmp(text, "{\"type\":\"disconnect\"", 20) == 0) {
        /* Advice before a close. Without a good token, or with a client too many, come back once an hour. */
        const char *after = strstr(text, "\"retry_after\":");
        int wait = strstr(text, "\"reconnect\":false") ? 3600000 : after ? (int) (atof(after + 14) * 1000) : 0;
        esp_websocket_client_set_reconnect_timeout(client, wait + 1000 + (int) (esp_random() % 9000));
        return;
    }
    long long id = id_of(text);
    if (id == 0 || id > handled) {
        ESP_LOGI(TAG, "%s", text);
    }
    if (id > 0) {
        /* After the work: a message that is not acknowledged comes again, and is skipped above if it was handled. */
        handled = id > handled ? id : handled;
        char ack[64];
        int length = snprintf(ack, sizeof ack, "{\"type\":\"ack\",\"message\":{\"id\":%lld}}", id);
        esp_websocket_client_send_text(client, ack, length, pdMS_TO_TICKS(5000));
    }
}

static void on_event(void *arg, esp_event_base_t base, int32_t id, void *event_data)
{
    const esp_websocket_event_data_t *event = event_data;

    if (id == WEBSOCKET_EVENT_CONNECTED) {
        ESP_LOGI(TAG, "connected");
        /* A random time, so that many boards do not come back at once after the server's restart. */
        esp_websocket_client_set_reconnect_timeout(event->client, 1000 + (int) (esp_random() % 9000));
    } else if (id == WEBSOCKET_EVENT_DATA && (event->op_code == 1 || event->op_code == 0)) {
        /* A part of a message: payload_len is the whole. */
        if (event->payload_offset + event->data_len < (int) sizeof message) {
            memcpy(message + event->payload_offset, event->data_ptr, event->data_len);
            if (event->payload_offset + event->data_len == event->payload_len) {
                message[event->payload_len] = '\0';
                on_message(event->client, message);
            }
        }
    }
}

esp_websocket_client_handle_t qy_lty_start(const char *token)
{
    static char headers[128];
    snprintf(headers, sizeof headers, "Authorization: Token %s\r\n", token);

    const esp_websocket_client_config_t config = {
        .uri = "ws://192.168.1.10:8000/ws/device/?client=lamp&ack=client&max_bytes=8192",
        .headers = headers,
        .subprotocol = "qy-lty.v1",
        .buffer_size = 2048,
        .reconnect_timeout_ms = 5000,
        .network_timeout_ms = 10000,
        .ping_interval_sec = 60,
        .enable_close_reconnect = true,
    };
    esp_websocket_client_handle_t client = esp_websocket_client_init(&config);
    esp_websocket_register_events(client, WEBSOCKET_EVENT_ANY, on_event, NULL);
    esp_websocket_client_start(client);
    return client;
}

void qy_lty_say(esp_websocket_client_handle_t client, const char *text)
{
    /* Text with quotation marks or line ends needs a JSON library. */
    static char json[256];
    int length = snprintf(json, sizeof json, "{\"type\":\"chat_message\",\"message\":\"%s\"}", text);
    if (length > 0 && length < (int) sizeof json && esp_websocket_client_is_connected(client)) {
        esp_websocket_client_send_text(client, json, length, pdMS_TO_TICKS(5000));
    }
}
