/* Events of ESP-IDF, as declarations. */
#pragma once
#include <stdint.h>

typedef const char *esp_event_base_t;
typedef int esp_err_t;
typedef void (*esp_event_handler_t)(void *arg, esp_event_base_t base, int32_t id, void *data);
