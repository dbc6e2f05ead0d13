"""The guide's example, section 6.2, with only the import changed, the token and address filled in."""

from __future__ import annotations

import subprocess
import sys

from server import User

EXAMPLE = '''\
from qy_lty_client import DeviceWebSocketClient
import asyncio
import json
import logging

logger = logging.getLogger(__name__)

# 使用示例
async def main():
    client = DeviceWebSocketClient('your-auth-token')

    # 注册消息处理器
    async def handle_chat_response(data):
        print(f"AI回复: {data['message']}")

    async def handle_weather_response(data):
        weather = data['data']['weather']['now']
        print(f"天气: {weather['text']}, 温度: {weather['temp']}°C")

    client.register_handler('chat_response', handle_chat_response)
    client.register_handler('weather_response', handle_weather_response)

    # 连接并发送消息
    await client.connect()
    await client.send_chat_message('你好')
    await client.request_weather('上海')

    # 保持连接
    await asyncio.sleep(10)
    await client.disconnect()

# 运行示例
if __name__ == '__main__':
    asyncio.run(main())
'''


def test_guide_example_runs_to_its_end(user: User) -> None:
    text = EXAMPLE.replace("'your-auth-token'", f"{user.token!r}, {user.server.url!r}")
    done = subprocess.run([sys.executable, "-W", "error", "-"], input=text, capture_output=True, text=True, timeout=90, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "AI回复: 收到消息:你好"
    assert lines[1].startswith("天气: ")
    assert lines[1].endswith("°C")
    assert len(lines) == 2
