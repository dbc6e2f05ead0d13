//! `qy-lty bench`: its own server, running servers, and peers that lose, repeat and swap messages.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use crate::support::program::{Running, program};
use crate::support::{ADMIN_PASSWORD, Server, eventually, http, set, unlimited};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// The time after which a run fails that should have ended; it is for a busy machine.
const DEADLINE: Duration = Duration::from_secs(240);
/// Sizes of a small run.
const SMALL: [&str; 14] = [
    "--seconds",
    "1",
    "--connections",
    "30",
    "--recipients",
    "12",
    "--senders",
    "4",
    "--waiting",
    "120",
    "--devices",
    "20",
    "--rate",
    "60",
];

/// Runs `bench` with those arguments in `at`, which is also where temporary directories are made.
async fn bench(at: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = program(at, &[&["bench"], arguments].concat());
    command.env("TMPDIR", at).envs(environment.iter().copied());
    timeout(DEADLINE, command.output()).await.expect("ends in time").unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The report on standard output; the run must have succeeded.
fn report(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn outcome<'a>(report: &'a Value, name: &str) -> &'a Value {
    let all = report["workloads"].as_array().unwrap();
    all.iter().find(|outcome| outcome["name"] == name).unwrap_or_else(|| panic!("no {name} in {report}"))
}

/// The names of what is in a directory.
fn entries(at: &Path) -> Vec<String> {
    std::fs::read_dir(at).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The processes that run on a directory below `at`.
fn processes(at: &Path) -> Vec<u32> {
    let path = at.as_os_str().as_encoded_bytes().to_vec();
    let on = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.windows(path.len()).any(|part| part == path)
    };
    let all = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    all.filter(on).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn own_server_is_measured_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let output = bench(dir.path(), &[&SMALL[..], &["--json"]].concat(), &[]).await;
    let report = report(&output);
    assert_eq!(
        (report["schema"].as_u64(), report["clean"].as_bool(), &report["server"]["url"]),
        (Some(1), Some(true), &Value::Null)
    );
    assert_eq!(stderr(&output), "", "nothing but the result where there is no terminal");
    let names: Vec<&str> = report["workloads"].as_array().unwrap().iter().map(|o| o["name"].as_str().unwrap()).collect();
    let expected = [
        "idle",
        "echo 1",
        "echo 16",
        "fan-out max",
        "fan-out rate",
        "push live max",
        "push live rate",
        "push queued max",
        "push queued rate",
        "offline queue",
        "offline drain",
        "storm",
        "mixed",
    ];
    assert_eq!(names, expected);
    for name in names {
        let outcome = outcome(&report, name);
        assert!(outcome["messages"].as_u64().unwrap() > 0 && outcome["rate"].as_f64().unwrap() > 0.0, "{outcome}");
        assert!(
            outcome["cpu_seconds_per_million"].is_number() && outcome["memory_bytes"].as_u64().unwrap() > 1 << 20,
            "{outcome}"
        );
        assert_eq!(outcome["refused"], json!({}), "no limit is in the way");
        let verdict = &outcome["verdict"];
        assert_eq!(verdict["expected"], verdict["received"], "{outcome}");
        if name != "idle" && name != "offline queue" {
            assert!(verdict["received"].as_u64().unwrap() > 0, "{outcome}");
        }
    }
    assert_eq!(outcome(&report, "offline drain")["verdict"]["received"], 120);
    assert_eq!(outcome(&report, "storm")["verdict"]["received"], 12);
    assert!(outcome(&report, "push live rate")["latency_us"]["p999"].as_f64().unwrap() > 0.0);
    assert!(outcome(&report, "idle")["figures"]["bytes_per_connection"].is_number());
    let sizing: Vec<&str> = report["sizing"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    for name in ["live_messages", "queued_messages", "devices_with_a_message_a_minute", "disk_per_million", "reconnect_10000"] {
        assert!(sizing.contains(&name), "{name} in {sizing:?}");
    }
    assert!(entries(dir.path()).is_empty(), "the directory is removed");
    assert!(processes(dir.path()).is_empty());

    // The same run twice has no difference.
    let path = dir.path().join("a.json");
    std::fs::write(&path, &output.stdout).unwrap();
    let compared = bench(dir.path(), &["--compare", "a.json", "a.json"], &[]).await;
    let text = String::from_utf8(compared.stdout.clone()).unwrap();
    assert!(compared.status.success() && text.contains("push live max") && text.contains("10 %"), "{text}");
    let compared = bench(dir.path(), &["--compare", "a.json", "a.json", "--json"], &[]).await;
    let rows = serde_json::from_slice::<Value>(&compared.stdout).unwrap()["rows"].clone();
    assert!(rows.as_array().unwrap().len() > 20 && rows.as_array().unwrap().iter().all(|row| row["verdict"] == "same"), "{rows}");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_ends_with_the_bench_however_that_ends() {
    for (signal, removed) in [("INT", true), ("TERM", true), ("KILL", false)] {
        let dir = tempfile::tempdir().unwrap();
        let mut command = program(dir.path(), &["bench", "--only", "echo", "--seconds", "600"]);
        let mut child = command.env("TMPDIR", dir.path()).spawn().unwrap();
        let data = |at: &Path| entries(at).first().map(|name| at.join(name).join("data/admin.sock"));
        eventually("the server serves", async || data(dir.path()).is_some_and(|socket| socket.exists())).await;
        let sent = std::process::Command::new("kill").args(["-s", signal, &child.id().unwrap().to_string()]).status().unwrap();
        assert!(sent.success());
        let status = timeout(DEADLINE, child.wait()).await.expect("ends in time").unwrap();
        assert!(!status.success());
        eventually("the server has ended", async || processes(dir.path()).is_empty()).await;
        assert_eq!(entries(dir.path()).is_empty(), removed, "{signal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn running_server_is_measured_over_its_control_socket_and_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::configured(
        dir.path(),
        "[limits]\nconnects_per_minute = 0\nmessages_per_minute = 0\nuser_messages_per_minute = 0\n",
    )
    .await;
    let admin = http::log_in(server.address, "admin", ADMIN_PASSWORD).await;
    let state = async || {
        let mut all = Vec::new();
        for path in ["/api/users", "/api/devices", "/api/auth/tokens", "/api/queue"] {
            let mut value = http::call(server.address, "GET", path, &admin, "").await.ok();
            // What the calls of this test change.
            for token in value["data"].as_array_mut().into_iter().flatten() {
                token.as_object_mut().unwrap().remove("last_used_at");
            }
            all.push(value);
        }
        all
    };
    let before = state().await;
    let url = format!("http://{}", server.address);
    let arguments = [&[url.as_str(), "--yes", "--json", "--config", "c.toml"], &SMALL[..]].concat();
    let output = bench(dir.path(), &arguments, &[]).await;
    let report = report(&output);
    assert_eq!(report["server"]["url"], json!(url));
    assert!(report["server"]["visible"].as_bool().unwrap() && outcome(&report, "echo 1")["cpu_seconds_per_million"].is_number());
    assert!(outcome(&report, "mixed")["verdict"]["received"].as_u64().unwrap() > 0);
    assert!(!report.to_string().contains("fan-out"), "a broadcast reaches the server's own clients");
    assert!(stderr(&output).contains("begin with bench-") && stderr(&output).contains("--only"), "{}", stderr(&output));
    assert_eq!(state().await, before);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn running_server_is_loaded_only_with_consent_and_by_an_administrator() {
    let (dir, server) = (tempfile::tempdir().unwrap(), Server::start().await);
    let (url, user) = (format!("http://{}", server.address), server.user("ana").await);
    let refused = async |arguments: &[&str], environment: &[(&str, &str)]| {
        let output = bench(dir.path(), arguments, environment).await;
        assert!(!output.status.success(), "{arguments:?}");
        stderr(&output)
    };
    assert!(refused(&[&url], &[]).await.contains("pass --yes"));
    assert!(refused(&[&url, "--yes"], &[]).await.contains("pass --token or set QY_LTY_BENCH_TOKEN"));
    assert!(refused(&[&url, "--yes", "--token", &user.token], &[]).await.contains("not that of an administrator"));
    assert!(refused(&[&url, "--yes"], &[("QY_LTY_BENCH_TOKEN", &user.token)]).await.contains("not that of an administrator"));
    assert!(refused(&[&url, "--yes", "--token", "qlt_wrong"], &[]).await.contains("authentication required"));
    assert!(refused(&["http://127.0.0.1:1", "--yes", "--token", "x"], &[]).await.contains("can't connect to 127.0.0.1:1"));
    assert!(refused(&["box", "--yes", "--token", "x"], &[]).await.contains("write http://HOST:PORT"));
    let users = server.get("/api/users", Some(&server.admin().await)).await.ok();
    assert_eq!(users["data"].as_array().unwrap().len(), 2, "nothing was created");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_by_limits_name_the_setting_and_are_no_loss() {
    let cases = [
        ("limits.connections_per_address", 5, "push-live"),
        ("limits.connections", 5, "storm"),
        ("limits.messages_per_minute", 20, "echo"),
        ("limits.trusted_requests_per_minute", 120, "push-queued"),
        ("mailbox.messages", 5, "offline"),
    ];
    for (name, value, workload) in cases {
        let dir = tempfile::tempdir().unwrap();
        let mut config = unlimited();
        set(&mut config, "limits.connects_per_minute", 60);
        set(&mut config, name, value);
        let server = Server::with(config).await;
        let (url, admin) = (format!("http://{}", server.address), server.admin().await);
        let arguments = [&[url.as_str(), "--yes", "--json", "--token", &admin, "--only", workload], &SMALL[..]].concat();
        let output = bench(dir.path(), &arguments, &[]).await;
        let report = report(&output);
        let refused: Vec<&String> =
            report["workloads"].as_array().unwrap().iter().flat_map(|o| o["refused"].as_object().unwrap().keys()).collect();
        assert!(refused.iter().any(|settings| settings.contains(name)), "{name}: {report}");
        for outcome in report["workloads"].as_array().unwrap() {
            assert_eq!(outcome["verdict"]["lost"], 0, "{name}: {outcome}");
            assert_eq!(outcome["cpu_seconds_per_million"], Value::Null, "nobody can see the process of another machine");
        }
        // Even where the load has used up the rate of the calls that delete them.
        assert!(!stderr(&output).contains("could not be deleted"), "{name}: {}", stderr(&output));
    }
}

/// What a proxy does to the first marked message of each connection.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Lose,
    Repeat,
    /// Sends it behind the next one.
    Swap,
}

/// Forwards connections to a server; what the server sends over WebSocket suffers a fault.
async fn proxy(server: SocketAddr, fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(forward(client, server, fault));
        }
    });
    address
}

async fn forward(mut client: TcpStream, server: SocketAddr, fault: Fault) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let mut first = vec![0; 4096];
    let n = client.read(&mut first).await?;
    server.write_all(&first[..n]).await?;
    if !first.starts_with(b"GET /ws/") {
        tokio::io::copy_bidirectional(&mut client, &mut server).await?;
        return Ok(());
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let (mut input, mut done, mut held) = (Vec::new(), false, None);
    loop {
        if from_server.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        if input.starts_with(b"HTTP/1.1") {
            let Some(end) = input.windows(4).position(|at| at == b"\r\n\r\n") else { continue };
            to_client.write_all(&input.drain(..end + 4).collect::<Vec<_>>()).await?;
        }
        while let Some(length) = frame_bytes(&input).filter(|length| *length <= input.len()) {
            let frame: Vec<u8> = input.drain(..length).collect();
            let marked = frame.windows(9).any(|at| at == b"\"bench\",\"");
            if marked && !std::mem::replace(&mut done, true) {
                match fault {
                    Fault::Lose => {}
                    Fault::Repeat => to_client.write_all(&[&frame[..], &frame].concat()).await?,
                    Fault::Swap => held = Some(frame),
                }
                continue;
            }
            to_client.write_all(&frame).await?;
            if marked && let Some(held) = held.take() {
                to_client.write_all(&held).await?;
            }
        }
    }
}

/// The length of the unmasked frame at the beginning of `input`.
fn frame_bytes(input: &[u8]) -> Option<usize> {
    match *input.get(1)? {
        126 => Some(4 + usize::from(u16::from_be_bytes(*input.get(2..)?.first_chunk()?))),
        127 => Some(10 + usize::try_from(u64::from_be_bytes(*input.get(2..)?.first_chunk()?)).unwrap()),
        short => Some(2 + usize::from(short)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_a_peer_loses_repeats_or_swaps_are_a_failure() {
    for (fault, field, word) in
        [(Fault::Lose, "lost", "lost"), (Fault::Repeat, "duplicates", "duplicated"), (Fault::Swap, "disordered", "out of order")]
    {
        let (dir, server) = (tempfile::tempdir().unwrap(), Server::with(unlimited()).await);
        let (url, admin) = (format!("http://{}", proxy(server.address, fault).await), server.admin().await);
        let arguments = [&[url.as_str(), "--yes", "--json", "--token", &admin, "--only", "offline"], &SMALL[..]].concat();
        let output = bench(dir.path(), &arguments, &[]).await;
        assert_eq!(output.status.code(), Some(1), "{fault:?}");
        assert!(stderr(&output).contains(&format!("12 {word}")), "{fault:?}: {}", stderr(&output));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let verdict = &outcome(&report, "offline drain")["verdict"];
        assert_eq!((report["clean"].as_bool(), verdict[field].as_u64()), (Some(false), Some(12)), "{fault:?}: {verdict}");
        for other in ["lost", "duplicates", "disordered", "misdelivered"].iter().filter(|other| **other != field) {
            assert_eq!(verdict[other], 0, "{fault:?}: {verdict}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_with_tls_is_measured_where_its_certificate_is_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::configured(dir.path(), "[tls]\nself_signed = true").await;
    let url = format!("https://localhost:{}", server.address.port());
    let arguments = [&[url.as_str(), "--yes", "--json", "--config", "c.toml", "--only", "push-live"], &SMALL[..]].concat();
    let cert = dir.path().join("data/tls/cert.pem");
    let output = bench(dir.path(), &arguments, &[("SSL_CERT_FILE", cert.to_str().unwrap())]).await;
    assert!(outcome(&report(&output), "push live max")["verdict"]["received"].as_u64().unwrap() > 0);
    let refused = bench(dir.path(), &arguments, &[]).await;
    assert!(!refused.status.success() && stderr(&refused).contains("certificate"), "{}", stderr(&refused));
    server.stop().await;
}
