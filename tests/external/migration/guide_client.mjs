// The JavaScript client of the guide, section 6.1, as it stands there. Below it a conversation.
// usage: node --experimental-websocket guide_client.mjs BASE_URL TOKEN; prints the events that it receives, one a line.

// WebSocket客户端示例
class DeviceWebSocketClient {
constructor(token, baseUrl = 'ws://localhost:8000') {
this.token = token;
this.baseUrl = baseUrl;
this.ws = null;
this.reconnectAttempts = 0;
this.maxReconnectAttempts = 5;
this.heartbeatInterval = null;
this.messageHandlers = new Map();
}
connect() {
try {
const wsUrl = `${this.baseUrl}/ws/device/?token=${this.token}`;
this.ws = new WebSocket(wsUrl);
this.ws.onopen = (event) => {
console.log('WebSocket连接已建立');
this.reconnectAttempts = 0;
this.startHeartbeat();
this.onConnect?.(event);
};
this.ws.onmessage = (event) => {
try {
const data = JSON.parse(event.data);
this.handleMessage(data);
} catch (error) {
console.error('消息解析错误:', error);
}
};
this.ws.onclose = (event) => {
console.log('WebSocket连接已关闭:', event.code, event.reason);
this.stopHeartbeat();
this.onDisconnect?.(event);
if (event.code !== 1000 && this.reconnectAttempts < this.maxReconnectAttempts) {
this.reconnect();
}
};
this.ws.onerror = (error) => {
console.error('WebSocket错误:', error);
this.onError?.(error);
};
} catch (error) {
console.error('WebSocket连接失败:', error);
}
}
disconnect() {
if (this.ws) {
this.ws.close(1000, '客户端主动断开连接');
}
}
reconnect() {
this.reconnectAttempts++;
console.log(`尝试重连 (${this.reconnectAttempts}/${this.maxReconnectAttempts})`);
setTimeout(() => {
this.connect();
}, Math.pow(2, this.reconnectAttempts) * 1000); // 指数退避
}
sendMessage(type, message) {
if (this.ws && this.ws.readyState === WebSocket.OPEN) {
const data = {
type: type,
message: message,
timestamp: new Date().toISOString()
};
this.ws.send(JSON.stringify(data));
return true;
} else {
console.error('WebSocket未连接');
return false;
}
}
// 消息处理
handleMessage(data) {
const handler = this.messageHandlers.get(data.type);
if (handler) {
handler(data);
} else {
console.log('收到消息:', data);
}
}
// 注册消息处理器
onMessage(type, handler) {
this.messageHandlers.set(type, handler);
}
// 心跳机制
startHeartbeat() {
this.heartbeatInterval = setInterval(() => {
this.sendMessage('ping', {});
}, 30000); // 30秒心跳
}
stopHeartbeat() {
if (this.heartbeatInterval) {
clearInterval(this.heartbeatInterval);
this.heartbeatInterval = null;
}
}
// 便捷方法
sendChatMessage(message) {
return this.sendMessage('chat_message', message);
}
requestWeather(city) {
return this.sendMessage('weather', { city: city });
}
requestSing(song, artist) {
return this.sendMessage('sing', { song: song, artist: artist });
}
requestDance(dance, style, duration = '30秒') {
return this.sendMessage('dance', {
dance: dance,
style: style,
duration: duration
});
}
}


const client = new DeviceWebSocketClient(process.argv[3], process.argv[2]);
const show = (data) => {
  process.stdout.write(JSON.stringify(data) + '\n');
  if (data.type === 'connection_status') {
    client.sendChatMessage('你好,请介绍一下自己');
    client.requestWeather('北京');
    client.requestSing('青花瓷', '周杰伦');
    client.requestDance('街舞', 'hip-hop');
  }
  if (data.type === 'notice') client.disconnect();
};
for (const type of ['connection_status', 'chat_response', 'weather_response', 'sing_response', 'dance_response', 'notice', 'error']) {
  client.onMessage(type, show);
}
// What the client itself logs goes where it does not mix with the events.
console.log = console.error;
client.connect();
