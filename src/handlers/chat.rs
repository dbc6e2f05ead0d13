//! `chat_message`: the built-in responder repeats what it heard (guide section 3.1, `process_chat_message`).

use crate::wire::Event;

pub(super) fn answer(text: &str) -> Event {
    Event::ChatResponse { message: format!("收到消息:{text}") }
}
