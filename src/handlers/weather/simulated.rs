//! `weather`: a simulated source, and marked as one.
//!
//! A box without internet has no real figures. What it gives is plausible for the city and the season, and the same for
//! everybody who asks for the same city within the same hour: the climate of the place, the hour of the day, and a little
//! chance that is fixed by city and date. Texts and icon numbers are QWeather's, which the guide uses.

use std::f64::consts::TAU;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::core::time::Timestamp;
use crate::wire::Event;
use crate::wire::outbound::{City, Weather, WeatherNow, WeatherReport};

/// What the answers are marked with.
const SOURCE: &str = "simulated";
/// The hours east of Greenwich at which days and seasons are reckoned: China's, as the guide's cities are.
const ZONE: i8 = 8;

/// A place's climate.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Climate {
    /// Mean of the year, °C.
    mean: f64,
    /// Half the difference between the warmest and the coldest month, °C; negative south of the equator.
    swing: f64,
    /// Share of hours with rain or snow, 0 to 1.
    wet: f64,
}

/// Names in Chinese and pinyin (or English), yearly mean, swing, wetness.
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

/// Other spellings of the cities above: full pinyin, and names of their own.
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

/// The name by which a city is known, whatever the spelling: `Beijing`, `bei jing` and `北京市` are `北京`. A city that is not
/// in the list is known by what it was called, without regard to case.
pub(crate) fn canonical(city: &str) -> String {
    let plain: String = city.chars().filter(|c| !c.is_whitespace() && !"'’-".contains(*c)).flat_map(char::to_lowercase).collect();
    let stem = plain.strip_suffix('市').unwrap_or(&plain);
    let listed = CITIES.iter().find(|c| c.0 == stem || c.1 == stem).map(|c| c.0);
    let listed = listed.or_else(|| ALIASES.iter().find(|alias| alias.0 == stem).map(|alias| alias.1));
    listed.map_or_else(|| city.trim().to_lowercase(), str::to_owned)
}

/// A known city's climate, or a temperate one that is always the same for the same name.
fn climate(name: &str) -> Climate {
    match CITIES.iter().find(|c| c.0 == name) {
        Some(&(_, _, mean, swing, wet)) => Climate { mean, swing, wet },
        None => Climate { mean: 10.0 + 9.0 * chance(name, 0, 1), swing: 8.0 + 5.0 * chance(name, 0, 2), wet: 0.2 },
    }
}

/// A number from 0 to below 1, fixed by its arguments.
fn chance(name: &str, when: i64, what: u8) -> f64 {
    let mut hasher = DefaultHasher::new();
    (name, when, what).hash(&mut hasher);
    (hasher.finish() >> 11) as f64 / (1u64 << 53) as f64
}

fn simulate(city: &str, now: Timestamp) -> WeatherNow {
    let name = canonical(city);
    let place = climate(&name);
    let local = now.civil(ZONE);
    let (hours, days) = (now.unix_seconds().div_euclid(3600), now.unix_seconds().div_euclid(86_400));
    // The coldest day is about the 20th of January, the warmest hour about three in the afternoon.
    let season = -place.swing * (TAU * (f64::from(local.day_of_year()) - 20.0) / 365.25).cos();
    let daytime = 3.5 * (TAU * (f64::from(local.hour()) - 15.0) / 24.0).cos();
    let mood = 6.0 * (chance(&name, days, 3) - 0.5) + 1.5 * (chance(&name, hours, 4) - 0.5);
    let temp = (place.mean + season + daytime + mood).round() as i32;
    // Skies last longer than an hour.
    let sky = chance(&name, hours.div_euclid(4), 5);
    let night = !(6..18).contains(&local.hour());
    let (text, icon) = if sky < place.wet {
        let heavy = sky < place.wet / 4.0;
        match (temp <= 0, heavy) {
            (true, false) => ("小雪", "400"),
            (true, true) => ("中雪", "401"),
            (false, false) => ("小雨", "305"),
            (false, true) => ("中雨", "306"),
        }
    } else if sky < place.wet + 0.2 {
        ("阴", "104")
    } else if sky < place.wet + 0.45 {
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
    fn the_same_within_the_hour_and_marked() {
        let answer = |minute: &str| answer("上海".into(), at(&format!("2026-07-01T12:{minute}:00+00:00")));
        assert_eq!(answer("00"), answer("59"));
        let Event::WeatherResponse { data } = answer("59") else { panic!() };
        assert_eq!(data.source, "simulated");
        assert_eq!(data.city.name, "上海");
        assert_eq!(data.weather.update_time, at("2026-07-01T12:00:00+00:00"));
    }

    #[test]
    fn one_place_whatever_the_spelling() {
        for name in ["北京市", "Beijing", "bei jing", "BEIJING", " 北京 "] {
            assert_eq!(simulate(name, at("2026-07-01T12:00:00Z")), simulate("北京", at("2026-07-01T12:00:00Z")), "{name}");
        }
    }

    #[test]
    fn seasons_are_right_for_the_place() {
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
        fn any_city_has_weather(city in "\\PC{1,64}", hour in 0i64..200_000) {
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
