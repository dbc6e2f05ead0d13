/* The interface of esp_websocket_client 1.x as far as clients/esp32 uses it, as declarations. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "esp_event.h"

typedef uint32_t TickType_t;
#define pdMS_TO_TICKS(milliseconds) ((TickType_t) (milliseconds) / 10)

typedef struct esp_websocket_client *esp_websocket_client_handle_t;

typedef enum {
    WEBSOCKET_EVENT_ANY = -1,
    WEBSOCKET_EVENT_ERROR = 0,
    WEBSOCKET_EVENT_CONNECTED,
    WEBSOCKET_EVENT_DISCONNECTED,
    WEBSOCKET_EVENT_DATA,
} esp_websocket_event_id_t;

typedef struct {
    const char *data_ptr;
    int data_len;
    bool fin;
    uint8_t op_code;
    int payload_len;
    int payload_offset;
    esp_websocket_client_handle_t client;
} esp_websocket_event_data_t;

typedef struct {
    const char *uri;
    bool enable_close_reconnect;
    int buffer_size;
    const char *subprotocol;
    const char *headers;
    int reconnect_timeout_ms;
    int network_timeout_ms;
    size_t ping_interval_sec;
} esp_websocket_client_config_t;

esp_websocket_client_handle_t esp_websocket_client_init(const esp_websocket_client_config_t *config);
esp_err_t esp_websocket_register_events(esp_websocket_client_handle_t client, esp_websocket_event_id_t event,
                                        esp_event_handler_t handler, void *argument);
esp_err_t esp_websocket_client_start(esp_websocket_client_handle_t client);
esp_err_t esp_websocket_client_set_reconnect_timeout(esp_websocket_client_handle_t client, int reconnect_timeout_ms);
bool esp_websocket_client_is_connected(esp_websocket_client_handle_t client);
int esp_websocket_client_send_text(esp_websocket_client_handle_t client, const char *data, int length, TickType_t timeout);
