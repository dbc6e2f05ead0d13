//! How the cost of an operation grows with what there is. `cargo bench --bench curves`
//!
//! The server's processor time for an echo, a live and a queued send, a connect and a drained message, and memory, while one thing
//! grows: connections (100 to 10,000), waiting messages (10 to 1,000,000), users (10 to 100,000), devices of a user (1 to 50). Each
//! curve is printed as CSV, and written with a plot as `curves.csv` and `*.svg` to `target/curves`. The last lines name the curves
//! that leave ± 20 % of their middle, the median.
//!
//! | variable | |
//! | --- | --- |
//! | `QY_LTY_CURVES_MAX` (1000000) | no size is larger; with 1000 and one second it ends in a few minutes |
//! | `QY_LTY_CURVES_SECONDS` (3) | the time of each measurement |
//! | `QY_LTY_CURVES_ROUNDS` (1) | the times that everything is measured, one after another; a point is the median of its rounds |
//! | `QY_LTY_CURVES_ONLY` | `connections`, `waiting`, `users`, `devices`: some of them, separated by commas |
//! | `QY_LTY_CURVES_PROGRAM` | another executable than that of this build, to compare |
//! | `QY_LTY_CURVES_OUT` (`target/curves`) | the directory for the files |
//!
//! Where there are two processors, the server has the first one to itself.

#![allow(clippy::missing_docs_in_private_items)]

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use qy_lty::load::own_server::Processors;
use qy_lty::load::population::Recipient;
use qy_lty::load::process::{Process, connection_room};
use qy_lty::load::receivers::{Flow, Receivers, Refusals, Shared, connect};
use qy_lty::load::report::Outcome;
use qy_lty::load::work::{Bench, Delivery, Silent, Sizes, Workload, publish_to, push};
use qy_lty::load::{OwnServer, OwnServerOptions, Population, Result};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The share of its middle by which a curve may leave it.
const BAND: f64 = 0.2;
/// Connections that send requests or are sent to, whatever else is connected.
const ACTIVE: usize = 100;
/// Users that are sent to among many, and connections that send to them. Few, so that there are as many in the smallest case; and no
/// more messages are open than those, or several would be written at once where there are few recipients.
const SENT_TO: usize = 10;
const SENDERS: usize = 5;
/// Users with devices.
const OWNERS: usize = 8;
/// Enough for the index of a million messages.
const MEMORY_BUDGET: &str = "storage.memory_budget=2147483648";

struct Settings {
    most: usize,
    seconds: f64,
    rounds: usize,
    only: Option<String>,
    out: PathBuf,
    program: PathBuf,
    processors: Vec<usize>,
}

impl Settings {
    fn read() -> Result<Self, Failure> {
        let text = |name: &str| std::env::var(name).ok();
        Ok(Self {
            most: text("QY_LTY_CURVES_MAX").map_or(Ok(1_000_000), |n| n.parse())?,
            seconds: text("QY_LTY_CURVES_SECONDS").map_or(Ok(3.0), |n| n.parse())?,
            rounds: text("QY_LTY_CURVES_ROUNDS").map_or(Ok(1), |n| n.parse())?,
            only: text("QY_LTY_CURVES_ONLY"),
            out: text("QY_LTY_CURVES_OUT")
                .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/curves"), PathBuf::from),
            program: text("QY_LTY_CURVES_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_qy-lty").into(), PathBuf::from),
            processors: Vec::new(),
        })
    }

    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.split(',').any(|one| one.trim() == name))
    }

    /// The sizes of a curve that are not beyond the largest one.
    fn steps(&self, all: &[usize]) -> Vec<usize> {
        all.iter().copied().filter(|n| *n <= self.most).collect()
    }

    async fn server(&self, users: usize) -> Result<OwnServer> {
        let mut options = OwnServerOptions::new(&self.program, users);
        options.settings = vec![MEMORY_BUDGET.to_owned()];
        options.processors.clone_from(&self.processors);
        let server = OwnServer::start(options).await?;
        rest(server.process()?).await;
        Ok(server)
    }

    fn bench<'a>(&self, server: &OwnServer, population: &'a mut Population, recipients: usize) -> Result<Bench<'a>> {
        let sizes = Sizes { seconds: self.seconds, recipients, echo: ACTIVE.min(recipients), ..Sizes::full() };
        Ok(Bench { population, process: Some(server.process()?), data: Some(server.data()), sizes, progress: Arc::new(Silent) })
    }
}

/// Waits until a server does nothing any more: after a start it looks at all names of users, for one.
async fn rest(process: Process) {
    let mut last = f64::MIN;
    for _ in 0..120 {
        let now = process.cpu_seconds().unwrap_or(0.0);
        if now - last < 0.02 {
            return;
        }
        last = now;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// One cost while one thing grows.
struct Curve {
    name: &'static str,
    x: &'static str,
    unit: &'static str,
    /// The costs that were measured at each size.
    measured: Vec<(usize, Vec<f64>)>,
}

/// The middle one of `values`, or the mean of the two in the middle.
fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let n = values.len();
    if n % 2 == 1 { values[n / 2] } else { (values[n / 2 - 1] + values[n / 2]) / 2.0 }
}

impl Curve {
    fn points(&self) -> impl Iterator<Item = (usize, f64)> + Clone {
        self.measured.iter().map(|(x, costs)| (*x, median(costs.iter().copied())))
    }

    fn middle(&self) -> f64 {
        median(self.points().map(|(_, y)| y))
    }

    /// The points outside of the band, as ratios to the middle.
    fn leaves(&self) -> Vec<(usize, f64)> {
        let middle = self.middle();
        self.points().map(|(x, y)| (x, y / middle)).filter(|(_, ratio)| (ratio - 1.0).abs() > BAND).collect()
    }
}

#[derive(Default)]
struct Curves(Vec<Curve>);

impl Curves {
    fn add(&mut self, name: &'static str, x: (&'static str, usize), unit: &'static str, y: Option<f64>) {
        let Some(y) = y else { return };
        eprintln!("{name}: {:.3} {unit} at {} {}", y, x.1, x.0);
        let at = self.0.iter().position(|curve| curve.name == name).unwrap_or_else(|| {
            self.0.push(Curve { name, x: x.0, unit, measured: Vec::new() });
            self.0.len() - 1
        });
        let measured = &mut self.0[at].measured;
        match measured.iter_mut().find(|(size, _)| *size == x.1) {
            Some((_, costs)) => costs.push(y),
            None => measured.push((x.1, vec![y])),
        }
    }

    fn cpu(&mut self, name: &'static str, x: (&'static str, usize), outcome: &Outcome) {
        assert!(outcome.verdict.is_clean(), "{name}: {outcome:?}");
        // Seconds for a million are microseconds for one.
        self.add(name, x, "µs", outcome.cpu_seconds_per_million);
    }

    fn csv(&self) -> String {
        let mut out = String::from("curve,x,size,cost,unit,ratio_to_middle,least,most\n");
        for curve in &self.0 {
            for (x, costs) in &curve.measured {
                let (y, least) = (median(costs.iter().copied()), costs.iter().copied().fold(f64::MAX, f64::min));
                let (ratio, most) = (y / curve.middle(), costs.iter().copied().fold(0.0, f64::max));
                let Curve { name, x: of, unit, .. } = curve;
                let _ = writeln!(out, "{name},{of},{x},{y:.3},{unit},{ratio:.3},{least:.3},{most:.3}");
            }
        }
        out
    }
}

/// Connections grow; each is another user's.
async fn connections(settings: &Settings, curves: &mut Curves) -> Result<()> {
    for count in settings.steps(&[100, 300, 1000, 3000, 10_000]) {
        let count = count.min(connection_room().saturating_sub(2 * ACTIVE));
        let x = ("connections", count);
        let server = settings.server(count + ACTIVE).await?;
        let mut population = server.population().await?;
        let mut bench = settings.bench(&server, &mut population, count)?;
        bench.sizes.connections = count;
        // What a server takes once is no part of a connection: others, of other users, are there before.
        let before = bench.population.recipients(count + ACTIVE).await?.split_off(count);
        let before =
            connect(server.target(), before.into_iter().map(|one| one.token).collect(), 64, &mut Refusals::new()).await?;
        let before = Receivers::start(before, &Shared::new(Flow::Free));
        let idle = bench.run(Workload::Idle).await?.remove(0);
        curves.add("connect by connections", x, "µs", idle.figure("cpu_us_per_connect"));
        curves.add("memory of a connection", x, "bytes", idle.figure("bytes_per_connection"));
        drop(before);
        let recipients = bench.population.recipients(count).await?;
        curves.cpu("live send to all connections in turn", x, &push(&bench, Delivery::Live, None, &recipients).await?);
        // Those that ask and are sent to are beside the others, which do nothing.
        let others = recipients.iter().skip(ACTIVE).map(|one| one.token.clone()).collect::<Vec<_>>();
        let sockets = connect(server.target(), others, 64, &mut Refusals::new()).await?;
        let idle = Receivers::start(sockets, &Shared::new(Flow::Free));
        curves.cpu("echo by connections", x, &bench.run(Workload::Echo).await?[0]);
        curves.cpu("live send by connections", x, &push(&bench, Delivery::Live, None, &recipients[..ACTIVE.min(count)]).await?);
        drop(idle);
        server.stop().await;
    }
    Ok(())
}

/// Messages that wait in one mailbox grow.
async fn waiting(settings: &Settings, curves: &mut Curves) -> Result<()> {
    for count in settings.steps(&[10, 100, 1000, 10_000, 100_000, 1_000_000]) {
        let x = ("waiting messages", count);
        let server = settings.server(1 + ACTIVE).await?;
        let mut population = server.population().await?;
        let mut bench = settings.bench(&server, &mut population, 1)?;
        // A drain of fewer costs too little beside the connection that it takes.
        if count >= 1000 {
            drain(&mut bench, count, curves, x).await?;
        }
        // Now with that many waiting, for others: what a send costs beside them.
        fill(&bench, &server, count).await?;
        let others: Vec<Recipient> = bench.population.recipients(1 + ACTIVE).await?.split_off(1);
        curves.cpu("queued send by waiting messages", x, &push(&bench, Delivery::Queued, None, &others).await?);
        server.stop().await;
    }
    Ok(())
}

/// Fills and drains one mailbox, several times where it is small, so that the cost can be seen.
async fn drain(bench: &mut Bench<'_>, count: usize, curves: &mut Curves, x: (&'static str, usize)) -> Result<()> {
    // The first time, a server pays for what it needs once.
    drain_once(bench, 1000).await?;
    let (mut drained, mut messages) = (0.0, 0);
    while messages < count.max(20_000) {
        // The connection that a drain takes is measured by one of a single message, and is no part of the cost.
        let (connection, _) = drain_once(bench, 1).await?;
        let (cost, queue) = drain_once(bench, count).await?;
        messages += count - 1;
        drained += cost - connection;
        if count >= 100_000 {
            curves.add("memory of a waiting message", x, "bytes", queue.figure("memory_bytes_per_message"));
            curves.add("disk of a waiting message", x, "bytes", queue.figure("disk_bytes_per_message"));
        }
    }
    curves.add("drain by waiting messages", x, "µs", Some(drained / messages as f64));
    Ok(())
}

/// Fills and drains one mailbox. Returns the processor time of the drain with its connection, in microseconds, and what was queued.
async fn drain_once(bench: &mut Bench<'_>, count: usize) -> Result<(f64, Outcome)> {
    bench.sizes.waiting = count;
    let mut outcomes = bench.run(Workload::Offline).await?;
    assert!(outcomes.iter().all(|outcome| outcome.verdict.is_clean()), "{outcomes:?}");
    let cost = outcomes[1].cpu_seconds_per_million.unwrap_or(0.0) * outcomes[1].messages as f64;
    Ok((cost, outcomes.swap_remove(0)))
}

/// Queues messages for recipients who don't come.
async fn fill(bench: &Bench<'_>, server: &OwnServer, count: usize) -> Result<()> {
    let senders = bench.sizes.senders * 2;
    let mut tasks = tokio::task::JoinSet::new();
    let (target, admin) = (server.target().clone(), server.admin().to_owned());
    let path = {
        let mut all = server.population().await?;
        all.recipients(1).await?.remove(0).path
    };
    for n in 0..senders {
        let (mut http, path) = (qy_lty::load::http::Http::new(&target, &admin), path.clone());
        let own = count / senders + usize::from(n < count % senders);
        tasks.spawn(async move {
            let body = serde_json::json!({"message": "x".repeat(128)});
            for _ in 0..own {
                http.call("POST", &path, &body).await?;
            }
            Ok::<_, qy_lty::load::LoadError>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.map_err(|error| qy_lty::load::LoadError::Other(error.to_string()))??;
    }
    Ok(())
}

/// Users grow; some of them, from all over, are connected and sent to.
async fn users(settings: &Settings, curves: &mut Curves) -> Result<()> {
    for count in settings.steps(&[10, 100, 1000, 10_000, 100_000]) {
        let x = ("users", count);
        let server = settings.server(count).await?;
        let mut population = server.population().await?;
        let mut bench = settings.bench(&server, &mut population, count)?;
        bench.sizes.senders = SENDERS;
        let all = bench.population.recipients(count).await?;
        let some: Vec<Recipient> = all.into_iter().step_by((count / SENT_TO).max(1)).take(SENT_TO).collect();
        curves.cpu("live send by users", x, &push(&bench, Delivery::Live, None, &some).await?);
        curves.cpu("queued send by users", x, &push(&bench, Delivery::Queued, None, &some).await?);
        curves.add("connect by users", x, "µs", Some(connects(&bench, &some).await?));
        server.stop().await;
    }
    Ok(())
}

/// The processor time of a connect, in microseconds, from 3,000 of them.
async fn connects(bench: &Bench<'_>, recipients: &[Recipient]) -> Result<f64> {
    const COUNT: usize = 3000;
    let process = bench.process.ok_or_else(|| qy_lty::load::LoadError::Other("no server".into()))?;
    let cpu = || process.cpu_seconds().unwrap_or(0.0);
    let (before, mut made) = (cpu(), 0);
    while made < COUNT {
        let tokens = recipients.iter().cycle().take(1000.min(COUNT - made)).map(|one| one.token.clone()).collect();
        let sockets = connect(bench.population.target(), tokens, 64, &mut Refusals::new()).await?;
        made += sockets.len();
    }
    Ok((cpu() - before) * 1e6 / made as f64)
}

/// Devices of a user grow.
async fn devices(settings: &Settings, curves: &mut Curves) -> Result<()> {
    let mut single = None;
    for count in settings.steps(&[1, 2, 5, 10, 20, 50]) {
        let x = ("devices", count);
        let server = settings.server(OWNERS).await?;
        let mut population = server.population().await?;
        for owner in 1..OWNERS {
            population.user_with_devices(owner, count).await?;
        }
        let (path, devices) = population.user_with_devices(0, count).await?;
        let mut bench = settings.bench(&server, &mut population, count)?;
        bench.sizes.senders = OWNERS;
        // The users alone are connected; the devices are only there.
        let users = bench.population.recipients(OWNERS).await?;
        curves.cpu("live send by devices", x, &push(&bench, Delivery::Live, None, &users).await?);
        curves.cpu("queued send by devices", x, &push(&bench, Delivery::Queued, None, &users).await?);
        // The devices are connected, and all receive.
        let sockets =
            connect(server.target(), devices.iter().map(|one| one.token.clone()).collect(), 64, &mut Refusals::new()).await?;
        let all = publish_to(&bench, "devices", &path, None, sockets).await?;
        assert!(all.verdict.is_clean(), "{all:?}");
        let send = all.cpu_seconds_per_million.unwrap_or(0.0) * count as f64;
        match single {
            None => single = Some(send),
            // The difference of fewer is smaller than its error.
            Some(single) if count >= 10 => {
                curves.add("each further device of a live send", x, "µs", Some((send - single) / (count - 1) as f64));
            }
            Some(_) => {}
        }
        server.stop().await;
    }
    Ok(())
}

/// A plot: sizes on a logarithmic axis, cost from zero, and the band around the middle.
fn svg(curve: &Curve) -> String {
    const WIDTH: f64 = 480.0;
    const HEIGHT: f64 = 260.0;
    // The margins around the axes.
    const LEFT: f64 = 60.0;
    const RIGHT: f64 = 20.0;
    const TOP: f64 = 34.0;
    const BOTTOM: f64 = 40.0;
    let log = |x: usize| (x.max(1) as f64).log10();
    let xs = curve.points().map(|(x, _)| log(x));
    let (low, high) = (xs.clone().fold(f64::MAX, f64::min), xs.fold(f64::MIN, f64::max));
    let middle = curve.middle();
    let top = curve.points().map(|(_, y)| y).fold(middle * 1.5, f64::max) * 1.1;
    let x = |value: usize| LEFT + (log(value) - low) / (high - low).max(0.01) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
    let mut out = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">
<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>
<text x="{LEFT}" y="18" font-size="13">{}, {}</text>
<rect x="{LEFT}" y="{:.1}" width="{:.1}" height="{:.1}" fill="#dde8f3"/>
<path d="M{LEFT} {TOP}V{:.1}H{:.1}" fill="none" stroke="#888"/>
"##,
        curve.name,
        curve.unit,
        y(middle * (1.0 + BAND)),
        WIDTH - LEFT - RIGHT,
        y(middle * (1.0 - BAND)) - y(middle * (1.0 + BAND)),
        HEIGHT - BOTTOM,
        WIDTH - RIGHT,
    );
    for value in [0.0, middle, top / 1.1] {
        let _ = writeln!(out, r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{value:.1}</text>"#, LEFT - 6.0, y(value) + 4.0);
    }
    let line: Vec<String> = curve.points().map(|(n, cost)| format!("{:.1},{:.1}", x(n), y(cost))).collect();
    let _ = writeln!(out, r##"<polyline points="{}" fill="none" stroke="#1f5f99" stroke-width="2"/>"##, line.join(" "));
    for (n, cost) in curve.points() {
        let _ = writeln!(out, r##"<circle cx="{:.1}" cy="{:.1}" r="3" fill="#1f5f99"/>"##, x(n), y(cost));
        let _ = writeln!(out, r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">{n}</text>"#, x(n), HEIGHT - BOTTOM + 16.0);
    }
    let _ = writeln!(out, r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#, WIDTH - RIGHT, HEIGHT - 8.0, curve.x);
    out + "</svg>\n"
}

async fn measure(settings: &Settings) -> Result<Curves> {
    let mut curves = Curves::default();
    // Round by round, not point by point: what slows the machine for a minute then changes one value of several points, and no median.
    for round in 1..=settings.rounds {
        eprintln!("round {round} of {}", settings.rounds);
        if settings.wants("devices") {
            devices(settings, &mut curves).await?;
        }
        if settings.wants("users") {
            users(settings, &mut curves).await?;
        }
        if settings.wants("connections") {
            connections(settings, &mut curves).await?;
        }
        if settings.wants("waiting") {
            waiting(settings, &mut curves).await?;
        }
    }
    Ok(curves)
}

fn main() -> Result<(), Failure> {
    let mut settings = Settings::read()?;
    connection_room(); // raises the limit of open files, which the server has from this process
    let allowed = Processors::allowed();
    let mut _load_on = None;
    if let [first, others @ ..] = &allowed[..]
        && !others.is_empty()
    {
        settings.processors = vec![*first];
        _load_on = Some(Processors::set(others));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let curves = runtime.block_on(measure(&settings))?;
    print!("{}", curves.csv());
    std::fs::create_dir_all(&settings.out)?;
    std::fs::write(settings.out.join("curves.csv"), curves.csv())?;
    for curve in curves.0.iter().filter(|curve| curve.measured.len() > 1) {
        std::fs::write(settings.out.join(format!("{}.svg", curve.name.replace(' ', "-"))), svg(curve))?;
    }
    eprintln!("written to {}", settings.out.display());
    for curve in &curves.0 {
        let leaves: Vec<String> = curve.leaves().iter().map(|(x, ratio)| format!("{ratio:.2} at {x}")).collect();
        if !leaves.is_empty() {
            eprintln!("{} leaves ± {:.0} % of its middle: {}", curve.name, BAND * 100.0, leaves.join(", "));
        }
    }
    Ok(())
}
