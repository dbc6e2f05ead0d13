"""The objects of the REST API. Made by scripts/generate_types.py from docs/api/openapi.json; do not edit."""

from __future__ import annotations

from typing import Any, Literal, TypedDict


class AliveResponse(TypedDict):
    """The process."""

    uptime_seconds: int
    version: str


class Attention(TypedDict):
    """Something that needs an administrator's attention."""

    code: str
    level: Level
    message: str


class AuditResponse(TypedDict):
    """An entry of the audit trail."""

    address: str | None
    at: str
    details: dict[str, Any]
    event: str
    id: int
    subject: str | None
    subject_id: int | None
    subject_kind: Literal["user", "device", "token", None]
    user_id: int | None
    username: str | None


class _CatalogEntry(TypedDict):
    """The required fields of CatalogEntry."""

    name: str


class CatalogEntry(_CatalogEntry, total=False):
    """A song or a dance."""

    artist: str | None
    style: str | None


class ChangeDeviceRequest(TypedDict, total=False):
    """Body of `PATCH /api/devices/{id}`; absent fields stay as they are."""

    max_bytes: int | None
    model: str | None
    name: str | None
    primary: bool | None
    serial: str | None
    user_ids: list[int | str] | None


class ChangePasswordRequest(TypedDict):
    """Body of `PUT /api/auth/password`."""

    current_password: str
    new_password: str


class ChangeUserRequest(TypedDict, total=False):
    """Body of `PATCH /api/users/{id}`; absent fields stay as they are."""

    disabled: bool | None
    password: str | None
    role: Role | None


class _ClaimRequest(TypedDict):
    """The required fields of ClaimRequest."""

    code: str


class ClaimRequest(_ClaimRequest, total=False):
    """Body of `POST /api/devices/claim`."""

    name: str | None
    primary: bool | None
    user_id: int | str | None


class ClearedResponse(TypedDict):
    """A cleared mailbox."""

    messages: int


class ClientResponse(TypedDict):
    """A client of a user."""

    cursor: int
    last_connected: str
    name: str
    online: bool
    waiting: int


class _ConnectionItem(TypedDict):
    """The required fields of ConnectionItem."""

    address: str
    client: str | None
    connected_at: str
    device_id: int | None
    device_name: str | None
    id: int
    lag: int
    last_activity: str
    user_id: int
    username: str | None


class ConnectionItem(_ConnectionItem, total=False):
    """A live connection."""

    proof: Literal["none"]


class _ConnectionsResponse(TypedDict):
    """The required fields of ConnectionsResponse."""

    connections: list[ConnectionItem]
    groups: int
    lagged: int
    mailbox: MailboxCounters
    messages: MessageCounters
    refused: int
    sessions: SessionCounters
    total_connections: int


class ConnectionsResponse(_ConnectionsResponse, total=False):
    """Live connections, a page of them, and counters since the start."""

    next: int


class _CreateDeviceRequest(TypedDict):
    """The required fields of CreateDeviceRequest."""

    name: str


class CreateDeviceRequest(_CreateDeviceRequest, total=False):
    """Body of `POST /api/devices`."""

    max_bytes: int | None
    model: str | None
    primary: bool
    serial: str | None
    user_id: int | str | None


class CreateTokenRequest(TypedDict, total=False):
    """Body of `POST /api/auth/tokens` and `POST /api/devices/{id}/token`; may be empty."""

    expires_in: int | None
    kind: TokenKind | None
    label: str | None
    scopes: list[Scope] | None


class _CreateUserRequest(TypedDict):
    """The required fields of CreateUserRequest."""

    password: str
    username: str


class CreateUserRequest(_CreateUserRequest, total=False):
    """Body of `POST /api/users`."""

    role: Role | None


class _CreatedTokenResponse(TypedDict):
    """The required fields of CreatedTokenResponse."""

    device_id: int | None
    expires_at: str | None
    id: int
    kind: TokenKind
    label: str
    token: str


class CreatedTokenResponse(_CreatedTokenResponse, total=False):
    """A new token with its secret, which is shown this once."""

    scopes: list[Scope]


Delivery = Literal["live", "queued"]


class _DeviceResponse(TypedDict):
    """The required fields of DeviceResponse."""

    created_at: str
    id: int
    last_seen: str | None
    model: str | None
    name: str
    online: bool
    primary: bool
    serial: str | None
    user_ids: list[int]


class DeviceResponse(_DeviceResponse, total=False):
    """A device as its users see it."""

    max_bytes: int


class DiskFigures(TypedDict):
    """The disk of the data directory."""

    free_bytes: int
    min_free_bytes: int
    store_bytes: int


class ElevateRequest(TypedDict):
    """Body of `POST /api/auth/elevate`."""

    password: str


class ElevateResponse(TypedDict):
    """An elevated session."""

    elevated_until: str | None


class ErrorData1(TypedDict):
    """ErrorData1."""

    field: str


class _Error(TypedDict):
    """The required fields of Error."""

    code: str
    message: str
    status: Literal["error"]


class Error(_Error, total=False):
    """Error."""

    data: ErrorData1 | Health
    retry_after: int


class GreetingResponse(TypedDict):
    """The program and its first addresses."""

    login: str
    name: str
    version: str
    websocket: str


class _Health(TypedDict):
    """The required fields of Health."""

    commit: Literal["ok", "failed"]
    disk_space: Literal["ok", "failed"]
    hub: Literal["ok", "failed"]
    running: Literal["ok", "failed"]
    store: Literal["ok", "failed"]


class Health(_Health, total=False):
    """The results of all checks. As JSON, each is `"ok"` or `"failed"`."""

    cluster: Literal["ok", "failed"]


Level = Literal["warning", "error"]


class LinkRequest(TypedDict):
    """Body of `POST /api/auth/link`."""

    code: str


class _LoginRequest(TypedDict):
    """The required fields of LoginRequest."""

    password: str
    username: str


class LoginRequest(_LoginRequest, total=False):
    """Body of `POST /api/auth/login`. Unknown fields are ignored, as in the guide."""

    cookie: bool


class _LoginResponse(TypedDict):
    """The required fields of LoginResponse."""

    user: LoginUser


class LoginResponse(_LoginResponse, total=False):
    """A log-in: its token, or for a browser the secret that goes with its cookie, and the user."""

    csrf: str
    token: str


class LoginUser(TypedDict):
    """The user of a log-in."""

    id: int
    role: Role
    username: str


class MailboxCounters(TypedDict):
    """Counters of the mailboxes since the start."""

    accepted: int
    delivered: int
    expired: int
    refused_disk: int
    refused_full: int
    rereads: int
    strange_acks: int


class MailboxResponse(TypedDict):
    """A mailbox that is not empty."""

    bytes: int
    id: int | None
    messages: int
    name: str | None
    oldest: str | None
    readers: int
    recipient: str
    to: Literal["user", "device", "all"]


class _MeResponse(TypedDict):
    """The required fields of MeResponse."""

    created_at: str
    disabled: bool
    elevated_until: str | None
    elevation_needed: bool
    id: int
    primary_device_id: int | None
    role: Role
    token: TokenResponse
    username: str


class MeResponse(_MeResponse, total=False):
    """The caller: its user and its token."""

    csrf: str


class MessageCounters(TypedDict):
    """Counters of WebSocket messages since the start."""

    received: int
    sent: int


class _MessageResponse(TypedDict):
    """The required fields of MessageResponse."""

    id: int
    message: Any
    timestamp: str
    type: str


class MessageResponse(_MessageResponse, total=False):
    """A message as it was pushed."""

    sender: str
    via: str


class _ObserveRequest(TypedDict):
    """The required fields of ObserveRequest."""

    temp: float | str


class ObserveRequest(_ObserveRequest, total=False):
    """Body of `PUT /api/weather/{name}`."""

    at: str | None
    icon: str | None
    text: str | None


class OnlineUserResponse(TypedDict):
    """A user with at least one live connection."""

    connected_since: str
    connections: int
    last_activity: str
    user_id: int
    username: str | None


class OperationItem(TypedDict):
    """An operation: its number since the start, and the last hundred."""

    count: int
    failure: int
    last: str | None
    max_seconds: float
    operation: str
    p50_seconds: float
    p99_seconds: float
    slow: int
    success: int
    total: int


class OverviewResponse(TypedDict):
    """The figures of the present moment."""

    attention: list[Attention]
    commit_p99_seconds: float
    connections: int
    devices_online: int
    disk: DiskFigures
    health: Health
    memory_budget_bytes: int | None
    memory_bytes: int | None
    queue: QueueFigures
    ready: bool
    received_per_second: float
    sent_per_second: float
    started_at: str
    uptime_seconds: int
    users_online: int
    version: str


class PairRequest(TypedDict, total=False):
    """Body of `POST /api/devices/pair`; may be empty. Either a description of the device, or its device code."""

    device_code: str | None
    model: str | None
    name: str | None
    serial: str | None


class PairResponse1(TypedDict):
    """Started."""

    code: str
    device_code: str
    expires_in: int
    interval: int


class PairResponse2(TypedDict):
    """Not claimed yet."""

    expires_in: int
    interval: int
    state: Literal["pending"]


class PairResponse3(TypedDict):
    """Claimed."""

    device: DeviceResponse
    state: Literal["paired"]
    token: str
    user_id: int


PairResponse = PairResponse1 | PairResponse2 | PairResponse3


class PerformanceResponse(TypedDict):
    """Durations and outcomes of operations."""

    operations: list[OperationItem]


PresenceResponse = TypedDict("PresenceResponse", {"from": "str", "slot_seconds": "int", "slots": "list[Literal[0, 1]]"})
"""The online times of a device in the last day."""


class QueueFigures(TypedDict):
    """The pending messages of all mailboxes."""

    bytes: int
    mailboxes: int
    messages: int
    oldest: str | None


class _QueueResponse(TypedDict):
    """The required fields of QueueResponse."""

    bytes: int
    messages: int
    oldest: str | None


class QueueResponse(_QueueResponse, total=False):
    """The size of one mailbox, or of all."""

    mailboxes: int


class _QueuedResponseMessage(TypedDict):
    """The required fields of QueuedResponseMessage."""

    id: int
    message: Any
    timestamp: str
    type: str


class QueuedResponseMessage(_QueuedResponseMessage, total=False):
    """As it is pushed, where the caller may read it."""

    sender: str
    via: str


class _QueuedResponse(TypedDict):
    """The required fields of QueuedResponse."""

    bytes: int
    expires_at: str
    id: int
    queued_at: str
    sender_id: int
    status: Literal["queued", "sent"]
    type: str


class QueuedResponse(_QueuedResponse, total=False):
    """A queued message."""

    message: QueuedResponseMessage


Range = Literal["hour", "day"]


class _ReaderResponse(TypedDict):
    """The required fields of ReaderResponse."""

    acked_at: str | None
    client: str


class ReaderResponse(_ReaderResponse, total=False):
    """A client in the receipt of a message."""

    status: Literal["undeliverable"]


class _ReceiptResponse(TypedDict):
    """The required fields of ReceiptResponse."""

    deliveries: int
    expires_at: str
    id: int
    queued_at: str
    sender_id: int
    status: Literal["queued", "sent", "acked", "expired", "cancelled", "cleared", "undeliverable"]
    to: Literal["user", "device", "all"]


class ReceiptResponse(_ReceiptResponse, total=False):
    """The receipt of a message."""

    acked_at: str
    device_id: int
    ended_at: str
    more_readers: int
    readers: list[ReaderResponse]
    received: int
    sent_at: str
    user_id: int


class RegisterRequest(TypedDict):
    """Body of `POST /api/auth/register`."""

    password: str
    username: str


Role = Literal["admin", "user"]


Scope = Literal["send", "broadcast", "read", "metrics"]


class _SendMessageRequest(TypedDict):
    """The required fields of SendMessageRequest."""

    message: Any


class SendMessageRequest(_SendMessageRequest, total=False):
    """Body of `POST /api/messages/device/{id}` and `POST /api/messages/broadcast`. Values stay as they were written."""

    delivery: Delivery | None
    ttl: int | None
    type: str | None


class _SendRequest(TypedDict):
    """The required fields of SendRequest."""

    message: Any
    type: str
    user_id: int | str


class SendRequest(_SendRequest, total=False):
    """Body of `POST /api/messages`. Unknown fields are ignored, as in the guide; values stay as they were written."""

    delivery: Delivery | None
    ttl: int | None


class _SendToUserRequest(TypedDict):
    """The required fields of SendToUserRequest."""

    message: Any


class SendToUserRequest(_SendToUserRequest, total=False):
    """Body of `POST /api/messages/user/{id}`. Unknown fields are ignored, as in the guide; values stay as they were written."""

    delivery: Delivery | None
    ttl: int | None
    type: str | None


class _SentResponse(TypedDict):
    """The required fields of SentResponse."""

    delivery: Delivery
    message: Any
    recipients: int
    timestamp: str
    type: str


class SentResponse(_SentResponse, total=False):
    """A sent message."""

    id: int


SeriesResponse = TypedDict("SeriesResponse", {"at": "list[int]", "commit_p99_ms": "list[float | None]", "connections": "list[int | None]", "disk_bytes": "list[int | None]", "from": "str", "memory_bytes": "list[int | None]", "queue_messages": "list[int | None]", "range": "Range", "received_per_second": "list[float | None]", "sent_per_second": "list[float | None]", "step_seconds": "int"})
"""Samples as columns, of the same length as `at`; `null` where there is none."""


class SessionCounters(TypedDict):
    """Counters of sessions since the start."""

    ended: int
    started: int


class SetCatalogRequest(TypedDict):
    """Body of `PUT /api/catalog/songs` and `PUT /api/catalog/dances`: the whole list."""

    items: list[CatalogEntry]


class SetPrimaryRequest(TypedDict, total=False):
    """Body of `PUT /api/devices/{id}/primary`; may be empty."""

    user_id: int | str | None


class Setting(TypedDict):
    """A setting in force."""

    changed: bool
    key: str
    restart_pending: bool
    secret: bool
    set: bool
    source: Literal["default", "file", "environment", "flag"]
    value: Any
    where: str | None


class SettingsResponse(TypedDict):
    """The configuration in force, with the source of each value."""

    file: str | None
    settings: list[Setting]


class TicketResponse(TypedDict):
    """A ticket, which stands in a URL instead of the token, once and for a short time."""

    expires_in: int
    ticket: str


TokenKind = Literal["user", "device", "service"]


class _TokenResponse(TypedDict):
    """The required fields of TokenResponse."""

    created_at: str
    device_id: int | None
    expires_at: str | None
    id: int
    kind: TokenKind
    label: str
    last_used_at: str | None


class TokenResponse(_TokenResponse, total=False):
    """A token without its secret."""

    scopes: list[Scope]


class UserResponse(TypedDict):
    """An account without its password hash."""

    created_at: str
    disabled: bool
    id: int
    role: Role
    username: str
