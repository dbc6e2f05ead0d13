//! `weather`: simulated weather, marked as such, for servers without internet access.
//!
//! The values are plausible for the city and the season, and equal for all requests for a city within the same hour. They are
//! computed from the climate of the city, the time of day, and a pseudo-random part that is determined by the city and the date.
//! Texts and icon numbers are QWeather's, which the guide uses.

use std::f64::consts::TAU;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::core::time::Timestamp;
use crate::wire::Event;
use crate::wire::outbound::{City, Weather, WeatherNow, WeatherReport};

/// The `source` of the answers.
const SOURCE: &str = "simulated";
/// The offset from UTC, in hours, of the simulated days and seasons: that of China, like the guide's cities.
const UTC_OFFSET_HOURS: i8 = 8;

/// The climate of a city.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Climate {
    /// The yearly mean temperature, °C.
    mean: f64,
    /// Half the temperature difference between the warmest and the coldest month, °C; negative south of the equator.
    amplitude: f64,
    /// The share of hours with rain or snow, 0 to 1.
    wetness: f64,
}

/// Cities: the name in Chinese, the name in pinyin or English, and the mean, amplitude and wetness of their climate.
const CITIES: [(&str, &str, f64, f64, f64); 28] = [
    ("北京", "beijing", 12.9, 15.2, 0.12),
    ("上海", "shanghai", 17.1, 11.8, 0.26),
    ("广州", "guangzhou", 22.6, 7.5, 0.30),
    ("深圳", "shenzhen", 23.3, 6.8, 0.28),
    ("天津", "tianjin", 13.1, 15.4, 0.12),
    ("重庆", "chongqing", 18.6, 10.4, 0.30),
    ("成都", "chengdu", 16.6, 9.9, 0.28),
    ("杭州", "hangzhou", 17.4, 12.1, 0.30),
    ("南京", "nanjing", 16.2, 12.9, 0.24),
    ("武汉", "wuhan", 17.1, 12.6, 0.25),
    ("西安", "xian", 14.4, 13.8, 0.16),
    ("苏州", "suzhou", 17.0, 12.0, 0.26),
    ("青岛", "qingdao", 13.0, 12.9, 0.15),
    ("大连", "dalian", 11.4, 14.3, 0.14),
    ("沈阳", "shenyang", 8.7, 18.2, 0.15),
    ("长春", "changchun", 6.4, 19.7, 0.15),
    ("哈尔滨", "harbin", 4.9, 21.0, 0.15),
    ("厦门", "xiamen", 21.1, 7.8, 0.24),
    ("福州", "fuzhou", 20.3, 9.0, 0.28),
    ("昆明", "kunming", 15.7, 6.0, 0.25),
    ("拉萨", "lhasa", 8.8, 8.4, 0.16),
    ("乌鲁木齐", "urumqi", 7.6, 19.0, 0.13),
    ("海口", "haikou", 24.4, 5.6, 0.28),
    ("香港", "hongkong", 23.5, 6.4, 0.28),
    ("台北", "taipei", 23.0, 6.9, 0.32),
    ("东京", "tokyo", 15.8, 10.9, 0.24),
    ("伦敦", "london", 11.8, 6.9, 0.30),
    ("悉尼", "sydney", 18.2, -5.6, 0.24),
];

pub(super) fn answer(city: String, now: Timestamp) -> Event {
    let now = now.hour_start();
    let weather = Weather { now: simulate(&city, now), update_time: now };
    Event::WeatherResponse { data: WeatherReport { city: City { name: city }, weather, source: SOURCE } }
}

/// Other names of these cities: full pinyin, traditional characters and older English names.
const ALIASES: [(&str, &str); 12] = [
    ("haerbin", "哈尔滨"),
    ("lasa", "拉萨"),
    ("wulumuqi", "乌鲁木齐"),
    ("xianggang", "香港"),
    ("taibei", "台北"),
    ("臺北", "台北"),
    ("dongjing", "东京"),
    ("東京", "东京"),
    ("lundun", "伦敦"),
    ("xini", "悉尼"),
    ("peking", "北京"),
    ("canton", "广州"),
];

/// Returns the canonical name of a city: `北京` for `Beijing`, `bei jing` and `北京市`. The canonical name of a city that is not
/// listed is the given one in lower case.
pub(crate) fn canonical_city(city: &str) -> String {
    let normalized: String =
        city.chars().filter(|c| !c.is_whitespace() && !"'’-".contains(*c)).flat_map(char::to_lowercase).collect();
    let stem = normalized.strip_suffix('市').unwrap_or(&normalized);
    let listed = CITIES.iter().find(|c| c.0 == stem || c.1 == stem).map(|c| c.0);
    let listed = listed.or_else(|| ALIASES.iter().find(|alias| alias.0 == stem).map(|alias| alias.1));
    listed.map_or_else(|| city.trim().to_lowercase(), str::to_owned)
}

/// Returns the climate of a listed city, or else a temperate one that is determined by the name.
fn climate(name: &str) -> Climate {
    match CITIES.iter().find(|c| c.0 == name) {
        Some(&(_, _, mean, amplitude, wetness)) => Climate { mean, amplitude, wetness },
        None => Climate {
            mean: 10.0 + 9.0 * pseudo_random(name, 0, 1),
            amplitude: 8.0 + 5.0 * pseudo_random(name, 0, 2),
            wetness: 0.2,
        },
    }
}

/// Returns a number in `0.0..1.0` that is determined by the arguments.
fn pseudo_random(name: &str, period: i64, stream: u8) -> f64 {
    let mut hasher = DefaultHasher::new();
    (name, period, stream).hash(&mut hasher);
    (hasher.finish() >> 11) as f64 / (1u64 << 53) as f64
}

fn simulate(city: &str, now: Timestamp) -> WeatherNow {
    let name = canonical_city(city);
    let climate = climate(&name);
    let local = now.civil(UTC_OFFSET_HOURS);
    let (hours, days) = (now.unix_seconds().div_euclid(3600), now.unix_seconds().div_euclid(86_400));
    // The coldest day is about 20 January, the warmest hour about 15:00.
    let season = -climate.amplitude * (TAU * (f64::from(local.day_of_year()) - 20.0) / 365.25).cos();
    let daytime = 3.5 * (TAU * (f64::from(local.hour()) - 15.0) / 24.0).cos();
    let variation = 6.0 * (pseudo_random(&name, days, 3) - 0.5) + 1.5 * (pseudo_random(&name, hours, 4) - 0.5);
    let temp = (climate.mean + season + daytime + variation).round() as i32;
    // The sky changes every four hours.
    let sky = pseudo_random(&name, hours.div_euclid(4), 5);
    let night = !(6..18).contains(&local.hour());
    let (text, icon) = if sky < climate.wetness {
        let heavy = sky < climate.wetness / 4.0;
        match (temp <= 0, heavy) {
            (true, false) => ("小雪", "400"),
            (true, true) => ("中雪", "401"),
            (false, false) => ("小雨", "305"),
            (false, true) => ("中雨", "306"),
        }
    } else if sky < climate.wetness + 0.2 {
        ("阴", "104")
    } else if sky < climate.wetness + 0.45 {
        ("多云", if night { "151" } else { "101" })
    } else {
        ("晴", if night { "150" } else { "100" })
    };
    WeatherNow { temp: temp.to_string(), text: text.into(), icon: icon.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        serde_json::from_str(&format!("\"{text}\"")).unwrap()
    }

    fn temp(city: &str, when: &str) -> i32 {
        simulate(city, at(when)).temp.parse().unwrap()
    }

    #[test]
    fn answer_within_the_hour_is_the_same_and_marked_as_simulated() {
        let answer = |minute: &str| answer("上海".into(), at(&format!("2026-07-01T12:{minute}:00+00:00")));
        assert_eq!(answer("00"), answer("59"));
        let Event::WeatherResponse { data } = answer("59") else { panic!() };
        assert_eq!(data.source, "simulated");
        assert_eq!(data.city.name, "上海");
        assert_eq!(data.weather.update_time, at("2026-07-01T12:00:00+00:00"));
    }

    #[test]
    fn spellings_of_a_city_have_the_same_weather() {
        for name in ["北京市", "Beijing", "bei jing", "BEIJING", " 北京 "] {
            assert_eq!(simulate(name, at("2026-07-01T12:00:00Z")), simulate("北京", at("2026-07-01T12:00:00Z")), "{name}");
        }
    }

    #[test]
    fn temperature_fits_the_season_and_the_city() {
        for day in 10..25 {
            let (winter, summer) = (format!("2026-01-{day}T06:00:00Z"), format!("2026-07-{day}T06:00:00Z"));
            assert!((-12..=9).contains(&temp("北京", &winter)), "{winter}");
            assert!((24..=37).contains(&temp("北京", &summer)), "{summer}");
            assert!(temp("哈尔滨", &winter) < -5);
            assert!(temp("海口", &winter) > 12);
            assert!(temp("悉尼", &winter) > temp("悉尼", &summer));
        }
    }

    proptest! {
        #[test]
        fn any_city_name_has_plausible_weather(city in "\\PC{1,64}", hour in 0i64..200_000) {
            let when = Timestamp::now().plus_seconds(0).minus(std::time::Duration::from_secs(hour.unsigned_abs() * 3600));
            let now = simulate(&city, when);
            let temp: i32 = now.temp.parse().unwrap();
            prop_assert!((-45..=50).contains(&temp), "{temp}");
            prop_assert!(now.temp != "-0");
            let snow = now.text.ends_with('雪');
            prop_assert!(!snow || temp <= 0);
        }
    }
}
