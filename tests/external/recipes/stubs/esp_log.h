/* The log of ESP-IDF, checked as printf is. */
#pragma once
#include <stdio.h>

#define ESP_LOGI(tag, ...) ((void) (tag), (void) printf(__VA_ARGS__))
