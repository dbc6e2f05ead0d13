// 登录页的文字。
/** @type {import("../../lib/i18n.js").Texts} */
export default {
  "signin.title": "登录",
  "signin.action": "登录",
  "signin.name": "用户名",
  "signin.ended": "会话已结束，请重新登录。",
  "signin.link": "在服务器所在的机器上运行以下命令，可获得登录链接：",
  "signin.docs": "查看接口文档",
};
