// What the sketches in clients/esp32 use of the Arduino core, as declarations: for a compiler, not for a board.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

class String {
public:
  String(const char *text = "");
  const char *c_str() const;
};

class SerialPort {
public:
  void begin(unsigned long baud);
  int printf(const char *format, ...) __attribute__((format(printf, 2, 3)));
  void println(const char *text);
  void println(const String &text);
};
extern SerialPort Serial;

unsigned long millis();
void delay(unsigned long milliseconds);
long random(long bound);
