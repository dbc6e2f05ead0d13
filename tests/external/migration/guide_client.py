"""The Python client of the guide, section 6.2, as it stands there, but for an import that is missing there. Below it a conversation.

usage: guide_client.py BASE_URL TOKEN; prints the events that it receives, one a line.
"""
import asyncio
import json
import logging
import sys
from datetime import datetime

import websockets

logger = logging.getLogger(__name__)


class DeviceWebSocketClient:
    def __init__(self, token: str, base_url: str = 'ws://localhost:8000'):
        self.token = token
        self.base_url = base_url
        self.websocket = None
        self.message_handlers = {}
        self.running = False

    async def connect(self):
        """连接到WebSocket服务器"""
        try:
            uri = f"{self.base_url}/ws/device/?token={self.token}"
            self.websocket = await websockets.connect(uri)
            self.running = True
            logger.info("WebSocket连接已建立")
            # 启动消息接收循环
            await self.listen_for_messages()
        except Exception as e:
            logger.error(f"WebSocket连接失败: {str(e)}")
            raise

    async def disconnect(self):
        """断开WebSocket连接"""
        self.running = False
        if self.websocket:
            await self.websocket.close()
            logger.info("WebSocket连接已断开")

    async def send_message(self, message_type: str, message_content):
        """发送消息"""
        if not self.websocket:
            raise ConnectionError("WebSocket未连接")
        data = {
            'type': message_type,
            'message': message_content,
            'timestamp': datetime.now().isoformat()
        }
        await self.websocket.send(json.dumps(data))

    async def listen_for_messages(self):
        """监听消息"""
        try:
            async for message in self.websocket:
                if not self.running:
                    break
                try:
                    data = json.loads(message)
                    await self.handle_message(data)
                except json.JSONDecodeError:
                    logger.error(f"无效的JSON消息: {message}")
        except websockets.exceptions.ConnectionClosed:
            logger.info("WebSocket连接已关闭")
        except Exception as e:
            logger.error(f"消息监听错误: {str(e)}")

    async def handle_message(self, data):
        """处理接收到的消息"""
        message_type = data.get('type')
        handler = self.message_handlers.get(message_type)
        if handler:
            await handler(data)
        else:
            logger.info(f"收到消息: {data}")

    def register_handler(self, message_type: str, handler):
        """注册消息处理器"""
        self.message_handlers[message_type] = handler

    # 便捷方法
    async def send_chat_message(self, message: str):
        """发送聊天消息"""
        await self.send_message('chat_message', message)

    async def request_weather(self, city: str):
        """请求天气信息"""
        await self.send_message('weather', {'city': city})

    async def request_sing(self, song: str, artist: str):
        """请求唱歌"""
        await self.send_message('sing', {'song': song, 'artist': artist})


async def main():
    client = DeviceWebSocketClient(sys.argv[2], sys.argv[1])
    done = asyncio.Event()

    async def show(data):
        print(json.dumps(data), flush=True)
        if data['type'] == 'connection_status':
            await client.send_chat_message('你好')
            await client.request_weather('上海')
            await client.request_sing('青花瓷', '周杰伦')
        if data['type'] == 'notice':
            done.set()

    for message_type in ('connection_status', 'chat_response', 'weather_response', 'sing_response', 'notice', 'error'):
        client.register_handler(message_type, show)
    listening = asyncio.create_task(client.connect())
    await asyncio.wait({listening, asyncio.create_task(done.wait())}, return_when=asyncio.FIRST_COMPLETED)
    await client.disconnect()


if __name__ == '__main__':
    asyncio.run(main())
