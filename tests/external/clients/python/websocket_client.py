"""The client with websocket-client."""

import websocket

from reader import Reader, report_close

reader = Reader()
ws = websocket.create_connection(reader.url)
code = 1006
try:
    while not reader.finished:
        opcode, data = ws.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            code = int.from_bytes(data[:2], "big")
            break
        reader.block(data)
except (websocket.WebSocketException, OSError):
    pass
ws.close()
report_close(1000 if reader.finished else code)
