//! `dance`: starts a dance (guide section 3.1, `handle_dance_request`), or stops it.

use crate::wire::Event;
use crate::wire::outbound::DanceData;

pub(super) fn answer(dance: String, style: String, duration: String, stop: bool) -> Event {
    let (action, message) = match (stop, dance.as_str()) {
        (false, _) => ("start_dancing", format!("开始跳舞:{dance} ({style})")),
        (true, "") => ("stop_dancing", "停止跳舞".to_owned()),
        (true, _) => ("stop_dancing", format!("停止跳舞:{dance}")),
    };
    Event::DanceResponse { data: DanceData { dance, style, duration, action }, message }
}
