//! The page that a collector reads.

use super::Metrics;
use super::instrument::{Histogram, Label};
use super::labels::{Operation, Route, Upstream};
use super::process::Process;
use super::text::Page;

/// What nobody counts, because somebody knows it: asked for at the moment of a look.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// Whether messages are taken.
    pub ready: bool,
    /// Live connections.
    pub connections: usize,
    /// How many there may be; 0: any number.
    pub connections_limit: u32,
    /// Open HTTP connections that are no WebSocket (yet).
    pub http_connections: u32,
    /// How many there may be; 0: any number.
    pub http_connections_limit: u32,
    /// Groups of users, of devices, and the one of all.
    pub groups: [Group; 3],
    /// How often a connection has fallen behind its groups.
    pub lagged: u64,
    /// Mailboxes with something in them.
    pub mailboxes: usize,
    /// Messages that wait.
    pub messages: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Seconds that the oldest of them has waited.
    pub oldest_seconds: f64,
    /// What the store takes on the disk.
    pub store_bytes: u64,
    /// What is free there.
    pub free_bytes: u64,
    /// Below which no message is taken.
    pub min_free_bytes: u64,
    /// Memory that caches and buffers are cut to fit.
    pub memory_budget: u64,
    /// What the system says.
    pub process: Process,
}

/// The groups of one kind.
#[derive(Debug, Clone, Copy, Default)]
pub struct Group {
    /// How many there are.
    pub count: usize,
    /// Members of all of them.
    pub members: usize,
    /// Members of the largest.
    pub largest: usize,
}

/// The commands of clients, among the operations.
const COMMANDS: [Operation; 7] = [
    Operation::Chat,
    Operation::ChatReset,
    Operation::Weather,
    Operation::Sing,
    Operation::Dance,
    Operation::Own,
    Operation::Ping,
];

impl Metrics {
    /// The page: everything counted, and `look`.
    pub fn expose(&self, look: &Look) -> String {
        let mut page = Page::default();
        self.process(&mut page, look);
        self.connections(&mut page, look);
        self.traffic(&mut page, look);
        self.mailbox(&mut page, look);
        self.answers(&mut page);
        self.requests(&mut page);
        page.finish()
    }

    fn process(&self, page: &mut Page, look: &Look) {
        let (started, process) = (self.started.unix_micros() as f64 / 1e6, &look.process);
        page.gauges("build_info", "Always 1; the version is in the label.", "version", [(env!("CARGO_PKG_VERSION"), 1)]);
        page.gauge("process_start_time_seconds", "When the server started, in seconds since 1970.", started);
        page.gauge("process_resident_memory_bytes", "Memory in use.", process.resident);
        page.gauge(
            "memory_budget_bytes",
            "Memory that caches and buffers are cut to fit (storage.memory_budget).",
            look.memory_budget,
        );
        page.counter("process_cpu_seconds_total", "Processor time.", process.cpu_seconds);
        page.gauge("process_open_fds", "Open files and sockets.", process.open_fds);
        page.gauge("process_max_fds", "Files and sockets that may be open.", process.max_fds);
        page.gauge("ready", "1 while messages are taken.", u8::from(look.ready));
        page.gauge("store_bytes", "What the store takes on the disk.", look.store_bytes);
        page.gauge("disk_free_bytes", "What is free on the disk of the data directory.", look.free_bytes);
        page.gauge(
            "disk_min_free_bytes",
            "Below so much free, messages are refused (storage.min_free_bytes).",
            look.min_free_bytes,
        );
    }

    fn connections(&self, page: &mut Page, look: &Look) {
        page.gauge("connections", "Live WebSockets.", look.connections);
        page.gauge("connections_limit", "How many there may be; 0: any number (limits.connections).", look.connections_limit);
        let (open, most) = (look.http_connections, look.http_connections_limit);
        page.gauge("http_connections", "Open HTTP connections that are no WebSocket (yet).", open);
        page.gauge("http_connections_limit", "How many there may be, others wait; 0: any number (limits.sockets).", most);
        page.counter("sessions_started_total", "WebSockets that were let in.", self.sessions.started.get());
        let ended = "WebSockets that ended, by the close code that we sent; client: it closed or vanished.";
        page.counters("sessions_ended_total", ended, "code", self.sessions.ended.all());
        page.counters("refused_total", "What was refused by a limit, a rule or a shortage.", "reason", self.refused.all());
        let kinds = || ["user", "device", "all"].into_iter().zip(look.groups);
        page.gauges("groups", "Groups with at least one member.", "kind", kinds().map(|(kind, g)| (kind, g.count)));
        page.gauges("group_members", "Members of all groups of a kind.", "kind", kinds().map(|(kind, g)| (kind, g.members)));
        let largest = kinds().map(|(kind, g)| (kind, g.largest));
        page.gauges("group_members_max", "Members of the largest group of a kind.", "kind", largest);
    }

    fn traffic(&self, page: &mut Page, look: &Look) {
        let traffic = &self.traffic;
        page.counters("messages_received_total", "Messages of clients.", "type", traffic.received.all());
        page.counters("messages_sent_total", "Answers and pushes handed to clients' sockets.", "type", traffic.sent.all());
        page.counters("errors_sent_total", "Error events handed to clients' sockets.", "code", traffic.faults.all());
        page.counter("lagged_total", "Times a connection fell behind its groups: what was live is lost to it.", look.lagged);
        page.counter("log_rereads_total", "Times a connection that fell behind went back to the log.", traffic.rereads.get());
    }

    fn mailbox(&self, page: &mut Page, look: &Look) {
        let mailbox = &self.mailbox;
        page.counter("mailbox_accepted_total", "Messages taken to be kept until received.", mailbox.accepted.get());
        page.counter("mailbox_delivered_total", "Messages that were acknowledged.", mailbox.delivered.get());
        page.counter("mailbox_expired_total", "Messages whose life ended before that.", mailbox.expired.get());
        page.counter("mailbox_strange_acks_total", "Acknowledgements of nothing.", mailbox.strange_acks.get());
        page.gauge("queue_mailboxes", "Mailboxes in which something waits.", look.mailboxes);
        page.gauge("queue_messages", "Messages that wait.", look.messages);
        page.gauge("queue_bytes", "Bytes of messages that wait.", look.bytes);
        page.gauge("queue_oldest_seconds", "How long the oldest of them has waited.", look.oldest_seconds);
        let commit = &self.commits.timed;
        one(page, "commit_duration_seconds", "Making a batch of changes durable.", &commit.durations);
        one(page, "commit_batch_size", "Changes in a batch that somebody waited for.", &self.commits.batch);
        page.counter("commit_failures_total", "Commits that failed: the server ends.", commit.failures.get());
        let send = &self.timed(Operation::Send).durations;
        one(page, "send_duration_seconds", "Sending a message over REST, until it is on disk and announced.", send);
    }

    fn answers(&self, page: &mut Page) {
        self.operations_by(page, "handler", "Answering a command.", "command", COMMANDS.map(|o| (o.name(), o)));
        let failures = COMMANDS.map(|o| (o.name(), self.timed(o).failures.get()));
        page.counters("handler_failures_total", "Commands answered with an error.", "command", failures);
        let upstreams = Upstream::ALL.iter().map(|&upstream| (upstream.name(), Operation::from(upstream)));
        self.operations_by(page, "upstream", "Calling an upstream.", "upstream", upstreams);
        let calls = Upstream::ALL.iter().flat_map(|&upstream| {
            self.upstreams.of(upstream).all().map(move |(outcome, count)| ([upstream.name(), outcome], count))
        });
        page.pairs("upstream_calls_total", "Calls of upstreams, by how they ended.", ["upstream", "outcome"], calls);
        page.counters("logins_total", "Log-ins with name and password.", "result", self.logins.all());
        let login = &self.timed(Operation::LogIn).durations;
        one(page, "login_duration_seconds", "Checking a name and a password.", login);
        let slow = self.operations().map(|timed| (timed.operation().name(), timed.slow.get()));
        page.counters("slow_operations_total", "Operations that took longer than a second.", "operation", slow);
    }

    fn requests(&self, page: &mut Page) {
        let requests = Route::ALL
            .iter()
            .flat_map(|&route| self.http.requests.of(route).all().map(move |(class, count)| ([route.name(), class], count)));
        page.pairs("http_requests_total", "HTTP requests.", ["route", "status"], requests);
        let labels: Vec<_> = Route::ALL.iter().map(|&route| ([("route", route.name())], self.http.duration(route))).collect();
        let durations = labels.iter().map(|(labels, histogram)| (&labels[..], *histogram));
        page.histograms("http_request_duration_seconds", "HTTP requests, until the answer's head is ready.", durations);
        page.counter(
            "audit_lines_left_out_total",
            "Lines about refusals that the audit trail left out.",
            self.audit_left_out.get(),
        );
    }

    /// The durations of some operations, told apart by a label.
    fn operations_by<'a>(
        &self,
        page: &mut Page,
        what: &str,
        help: &str,
        label: &'a str,
        operations: impl IntoIterator<Item = (&'a str, Operation)>,
    ) {
        let labels: Vec<_> =
            operations.into_iter().map(|(text, operation)| ([(label, text)], &self.timed(operation).durations)).collect();
        let durations = labels.iter().map(|(labels, histogram)| (&labels[..], *histogram));
        page.histograms(&format!("{what}_duration_seconds"), help, durations);
    }
}

/// A histogram without labels.
fn one(page: &mut Page, name: &str, help: &str, histogram: &Histogram) {
    page.histograms(name, help, [(&[][..], histogram)]);
}
