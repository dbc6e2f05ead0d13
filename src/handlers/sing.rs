//! `sing`: start a song (guide section 3.1, `handle_sing_request`).

use crate::wire::Event;
use crate::wire::outbound::SongData;

pub(super) fn answer(song: String, artist: String) -> Event {
    let message = format!("开始播放:{song} - {artist}");
    Event::SingResponse { data: SongData { song, artist, action: "start_singing" }, message }
}
