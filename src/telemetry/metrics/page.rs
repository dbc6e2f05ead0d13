//! The metrics page.

use super::Metrics;
use super::exposition::Page;
use super::instruments::{Histogram, Label};
use super::labels::{Operation, Route, Upstream};
use super::process::Process;

/// Values that other modules keep, read when the page is rendered.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// True while messages are accepted.
    pub ready: bool,
    /// Live WebSocket connections.
    pub connections: usize,
    /// The limit on these; 0: unlimited.
    pub connections_limit: u32,
    /// Open HTTP connections that are not (yet) a WebSocket.
    pub http_connections: u32,
    /// The limit on these; 0: unlimited.
    pub http_connections_limit: u32,
    /// The groups of users, of devices, and the group of all connections.
    pub groups: [GroupStats; 3],
    /// The number of times that a connection fell behind its groups.
    pub lagged: u64,
    /// Mailboxes with pending messages.
    pub mailboxes: usize,
    /// Readers.
    pub readers: usize,
    /// Receipts.
    pub receipts: usize,
    /// Pending messages.
    pub messages: usize,
    /// Bytes of pending messages.
    pub bytes: u64,
    /// The age of the oldest pending message, in seconds.
    pub oldest_seconds: f64,
    /// The size of the store on disk, in bytes.
    pub store_bytes: u64,
    /// Free disk space, in bytes.
    pub free_bytes: u64,
    /// The free disk space below which messages are refused.
    pub min_free_bytes: u64,
    /// The number of commits that the store has lost, as far as the operator has not acknowledged it.
    pub lost_commits: u64,
    /// The number of records that it has left behind because they could not be read, in the same way.
    pub lost_records: u64,
    /// The memory budget of caches and buffers, in bytes.
    pub memory_budget: u64,
    /// The memory of the index of the mailboxes, in bytes.
    pub index_bytes: u64,
    /// The memory of that index from which on messages are refused.
    pub index_limit_bytes: u64,
    /// Resource usage of the process.
    pub process: Process,
}

/// The groups of one kind.
#[derive(Debug, Clone, Copy, Default)]
pub struct GroupStats {
    /// The number of groups.
    pub count: usize,
    /// The members of all groups together.
    pub members: usize,
    /// The members of the largest group.
    pub largest: usize,
}

/// The operations that are commands of clients.
const COMMANDS: &[Operation] = &[
    Operation::Chat,
    Operation::ChatReset,
    Operation::ChatCancel,
    Operation::Weather,
    Operation::Sing,
    Operation::Dance,
    Operation::Custom,
    Operation::Ping,
];

impl Metrics {
    /// Renders the page from these metrics and `snapshot`.
    pub fn expose(&self, snapshot: &Snapshot) -> String {
        let mut page = Page::default();
        self.process(&mut page, snapshot);
        self.connections(&mut page, snapshot);
        self.traffic(&mut page, snapshot);
        self.mailbox(&mut page, snapshot);
        self.answers(&mut page);
        self.requests(&mut page);
        page.finish()
    }

    fn process(&self, page: &mut Page, snapshot: &Snapshot) {
        let (started, process) = (self.started.unix_micros() as f64 / 1e6, &snapshot.process);
        page.gauges("build_info", "Always 1; the label holds the version.", "version", [(env!("CARGO_PKG_VERSION"), 1)]);
        page.gauge("process_start_time_seconds", "Start time of the server, in seconds since 1970.", started);
        page.gauge("process_resident_memory_bytes", "Resident memory.", process.resident);
        page.gauge("memory_budget_bytes", "Memory budget of caches and buffers (storage.memory_budget).", snapshot.memory_budget);
        page.gauge("index_bytes", "Memory of the index of the mailboxes, estimated; a part of the budget.", snapshot.index_bytes);
        let help = "Memory of that index from which on messages are refused: half of storage.memory_budget.";
        page.gauge("index_limit_bytes", help, snapshot.index_limit_bytes);
        let help = "Commits that the store has lost, until the operator has acknowledged it.";
        page.gauge("store_lost_commits", help, snapshot.lost_commits);
        let help = "Records or pages that could not be read and were left behind, until the operator has acknowledged it.";
        page.gauge("store_lost_records", help, snapshot.lost_records);
        page.counter("process_cpu_seconds_total", "Processor time.", process.cpu_seconds);
        page.gauge("process_open_fds", "Open files and sockets.", process.open_fds);
        page.gauge("process_max_fds", "Limit on open files and sockets.", process.max_fds);
        page.gauge("ready", "1 while messages are accepted.", u8::from(snapshot.ready));
        page.gauge("store_bytes", "Size of the store on disk.", snapshot.store_bytes);
        page.gauge("disk_free_bytes", "Free space on the disk of the data directory.", snapshot.free_bytes);
        page.gauge(
            "disk_min_free_bytes",
            "Free space below which messages are refused (storage.min_free_bytes).",
            snapshot.min_free_bytes,
        );
    }

    fn connections(&self, page: &mut Page, snapshot: &Snapshot) {
        page.gauge("connections", "Live WebSocket connections.", snapshot.connections);
        let limit = snapshot.connections_limit;
        page.gauge("connections_limit", "Limit on WebSocket connections; 0: unlimited (limits.connections).", limit);
        let (open, limit) = (snapshot.http_connections, snapshot.http_connections_limit);
        page.gauge("http_connections", "Open HTTP connections that are not (yet) a WebSocket.", open);
        let help = "Limit on these connections, beyond which further ones wait; 0: unlimited (limits.sockets).";
        page.gauge("http_connections_limit", help, limit);
        page.counter("sessions_started_total", "WebSocket sessions that were accepted.", self.sessions.started.get());
        let ended = "WebSocket sessions that ended, by the close code sent; client: the client closed or vanished.";
        page.counters("sessions_ended_total", ended, "code", self.sessions.ended.all());
        let stalled = "Sessions ended with 4102 although the peer's TCP acknowledged (limits.stalled_seconds).";
        page.counter("sessions_stalled_total", stalled, self.sessions.stalled.get());
        let too_big = "Sessions that the client closed with 1009: a message was too large for it.";
        page.counter("sessions_client_too_big_total", too_big, self.sessions.too_big_for_client.get());
        let unproved = "Sessions that proved nothing for two ping intervals while messages were in flight.";
        page.counter("sessions_unproved_total", unproved, self.sessions.unproved.get());
        page.counters("refused_total", "Refusals because of a limit, a rule or a shortage.", "reason", self.refused.all());
        let kinds = || ["user", "device", "all"].into_iter().zip(snapshot.groups);
        page.gauges("groups", "Groups with at least one member.", "kind", kinds().map(|(kind, g)| (kind, g.count)));
        page.gauges("group_members", "Members of all groups of a kind.", "kind", kinds().map(|(kind, g)| (kind, g.members)));
        let largest = kinds().map(|(kind, g)| (kind, g.largest));
        page.gauges("group_members_max", "Members of the largest group of a kind.", "kind", largest);
    }

    fn traffic(&self, page: &mut Page, snapshot: &Snapshot) {
        let traffic = &self.traffic;
        page.counters("messages_received_total", "Messages from clients.", "type", traffic.received.all());
        page.counters("messages_sent_total", "Messages written to clients' sockets.", "type", traffic.sent.all());
        page.counters("errors_sent_total", "Error events written to clients' sockets.", "code", traffic.errors.all());
        let lagged = "Times that a connection fell behind its groups; it misses the live messages in between.";
        page.counter("lagged_total", lagged, snapshot.lagged);
        let rereads = "Times that a connection that fell behind returned to the log.";
        page.counter("log_rereads_total", rereads, traffic.rereads.get());
        single(page, "delivery_window_messages", "Size of a delivery window after each change.", &traffic.windows);
    }

    fn mailbox(&self, page: &mut Page, snapshot: &Snapshot) {
        let mailbox = &self.mailbox;
        page.counter("mailbox_accepted_total", "Queued messages that were accepted.", mailbox.accepted.get());
        page.counter("mailbox_delivered_total", "Queued messages that were acknowledged.", mailbox.delivered.get());
        page.counter("mailbox_expired_total", "Queued messages that expired unacknowledged.", mailbox.expired.get());
        page.counter("mailbox_cancelled_total", "Queued messages that were taken back.", mailbox.cancelled.get());
        page.counter("mailbox_cleared_total", "Queued messages that were cleared.", mailbox.cleared.get());
        let undeliverable = "Queued messages that every client of their recipient passed over.";
        page.counter("mailbox_undeliverable_total", undeliverable, mailbox.undeliverable.get());
        page.counter("mailbox_passed_over_total", "Queued messages that a client passed over.", mailbox.passed_over.get());
        page.counter("mailbox_missed_total", "Messages removed before every client had them.", mailbox.missed.get());
        let evicted = "Receipts removed early, since there were more than history.receipts.";
        page.counter("receipts_evicted_total", evicted, mailbox.receipts_evicted.get());
        page.gauge("readers", "Clients with a place of their own.", snapshot.readers);
        page.gauge("receipts", "Receipts kept.", snapshot.receipts);
        let unmatched = "Acknowledgements that match no message in flight.";
        page.counter("mailbox_strange_acks_total", unmatched, mailbox.unmatched_acks.get());
        page.gauge("queue_mailboxes", "Mailboxes with pending messages.", snapshot.mailboxes);
        page.gauge("queue_messages", "Pending messages.", snapshot.messages);
        page.gauge("queue_bytes", "Bytes of pending messages.", snapshot.bytes);
        page.gauge("queue_oldest_seconds", "Age of the oldest pending message.", snapshot.oldest_seconds);
        let commit = &self.commits.timed;
        single(page, "commit_duration_seconds", "Duration of a commit: flush and sync.", &commit.durations);
        single(page, "commit_batch_size", "Changes in a commit for which a caller waited.", &self.commits.batch);
        page.counter("commit_failures_total", "Commits that failed; a failure ends the server.", commit.failures.get());
        let send = &self.timed(Operation::Send).durations;
        single(page, "send_duration_seconds", "Duration of a send over REST, until the message is durable and announced.", send);
    }

    fn answers(&self, page: &mut Page) {
        self.durations_by(
            page,
            "handler_duration_seconds",
            "Duration of commands.",
            "command",
            COMMANDS.iter().map(|&o| (o.name(), o)),
        );
        let failures = COMMANDS.iter().map(|&o| (o.name(), self.timed(o).failures.get()));
        page.counters("handler_failures_total", "Commands answered with an error.", "command", failures);
        let upstreams = Upstream::ALL.iter().map(|&upstream| (upstream.name(), Operation::from(upstream)));
        self.durations_by(page, "upstream_duration_seconds", "Duration of upstream calls.", "upstream", upstreams);
        let calls = Upstream::ALL.iter().flat_map(|&upstream| {
            self.upstreams.of(upstream).all().map(move |(outcome, count)| ([upstream.name(), outcome], count))
        });
        page.counter_matrix("upstream_calls_total", "Upstream calls, by outcome.", ["upstream", "outcome"], calls);
        page.counters("logins_total", "Password log-ins, by result.", "result", self.logins.all());
        let login = &self.timed(Operation::LogIn).durations;
        single(page, "login_duration_seconds", "Duration of password log-ins.", login);
        let slow = self.operations().map(|stats| (stats.operation().name(), stats.slow.get()));
        page.counters("slow_operations_total", "Operations that took longer than a second.", "operation", slow);
    }

    fn requests(&self, page: &mut Page) {
        let requests = Route::ALL
            .iter()
            .flat_map(|&route| self.http.requests.of(route).all().map(move |(class, count)| ([route.name(), class], count)));
        page.counter_matrix("http_requests_total", "HTTP requests.", ["route", "status"], requests);
        let labels: Vec<_> = Route::ALL.iter().map(|&route| ([("route", route.name())], self.http.duration(route))).collect();
        let durations = labels.iter().map(|(labels, histogram)| (&labels[..], *histogram));
        let help = "Duration of HTTP requests, until the head of the response is ready.";
        page.histograms("http_request_duration_seconds", help, durations);
        let help = "Refusals that were left out of the audit trail.";
        page.counter("audit_lines_left_out_total", help, self.audit_suppressed.get());
    }

    /// Adds a histogram of the durations of each operation, distinguished by a label.
    fn durations_by<'a>(
        &self,
        page: &mut Page,
        name: &str,
        help: &str,
        label: &'a str,
        operations: impl IntoIterator<Item = (&'a str, Operation)>,
    ) {
        let labels: Vec<_> =
            operations.into_iter().map(|(value, operation)| ([(label, value)], &self.timed(operation).durations)).collect();
        let durations = labels.iter().map(|(labels, histogram)| (&labels[..], *histogram));
        page.histograms(name, help, durations);
    }
}

/// Adds a histogram without labels.
fn single(page: &mut Page, name: &str, help: &str, histogram: &Histogram) {
    page.histograms(name, help, [(&[][..], histogram)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Received;

    #[test]
    fn page_lists_every_command() {
        // Each type of a client is a command, except for acknowledgements; what is rejected is none.
        let commands = Received::ALL.iter().filter(|kind| !matches!(kind, Received::Ack | Received::Rejected)).count();
        assert_eq!(COMMANDS.len(), commands, "{COMMANDS:?} lacks the operation of a type");
    }
}
