//! `sing`: starts a song (guide section 3.1, `handle_sing_request`), or stops it.

use crate::wire::Event;
use crate::wire::outbound::SongData;

pub(super) fn answer(song: String, artist: String, stop: bool) -> Event {
    let (action, message) = match (stop, song.as_str()) {
        (false, _) => ("start_singing", format!("开始播放:{song} - {artist}")),
        (true, "") => ("stop_singing", "停止播放".to_owned()),
        (true, _) => ("stop_singing", format!("停止播放:{song}")),
    };
    Event::SingResponse { data: SongData { song, artist, action }, message }
}
