//! `dance`: start a dance (guide section 3.1, `handle_dance_request`).

use crate::wire::Event;
use crate::wire::outbound::DanceData;

pub(super) fn answer(dance: String, style: String, duration: String) -> Event {
    let message = format!("开始跳舞:{dance} ({style})");
    Event::DanceResponse { data: DanceData { dance, style, duration, action: "start_dancing" }, message }
}
