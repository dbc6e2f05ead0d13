// Generated from docs/api/openapi.json by scripts/api_types.js. Do not edit.

/** The process. */
export type AliveResponse = {
  uptime_seconds: number;
  version: string;
};

/** Something that needs an administrator's attention. */
export type Attention = {
  /** Its kind, for programs. */
  code: string;
  /** Its urgency. */
  level: Level;
  /** The fault and its remedy, for people. */
  message: string;
};

/** An entry of the audit trail. */
export type AuditResponse = {
  address: string | null;
  at: string;
  /** The other parts of the event, by name. */
  details: Record<string, unknown>;
  event: string;
  /** An entry of the audit trail; assigned in rising order. */
  id: number;
  /** The name of the subject, of a token its label. */
  subject: string | null;
  subject_id: number | null;
  /** `user`, `device` or `token`: what the event is about. */
  subject_kind: "user" | "device" | "token" | null;
  /** The acting user; 0 for the command line; `null` where nobody was logged in. */
  user_id: number | null;
  /** The acting user's name, as long as the account exists. */
  username: string | null;
};

/** A song or a dance. */
export type CatalogEntry = {
  /** Of a song: the singer. */
  artist?: string | null;
  /** Its title. */
  name: string;
  /** Of a dance: its style. */
  style?: string | null;
};

/** Body of `PATCH /api/devices/{id}`; absent fields stay as they are. */
export type ChangeDeviceRequest = {
  /** At least 1024; `null` removes it. */
  max_bytes?: number | null;
  /** `null` removes it. */
  model?: string | null;
  name?: string | null;
  primary?: boolean | null;
  /** `null` removes it. */
  serial?: string | null;
  /** For administrators: all the users that it is bound to. */
  user_ids?: Array<number | string> | null;
};

/** Body of `PUT /api/auth/password`. */
export type ChangePasswordRequest = {
  current_password: string;
  new_password: string;
};

/** Body of `PATCH /api/users/{id}`; absent fields stay as they are. */
export type ChangeUserRequest = {
  disabled?: boolean | null;
  password?: string | null;
  role?: Role | null;
};

/** Body of `POST /api/devices/claim`. */
export type ClaimRequest = {
  code: string;
  name?: string | null;
  /** Where it is absent, the device becomes primary if it is the only one of its user. */
  primary?: boolean | null;
  /** For administrators: the user who gets the device, instead of the caller. */
  user_id?: number | string | null;
};

/** A cleared mailbox. */
export type ClearedResponse = {
  /** The number of messages that were deleted. */
  messages: number;
};

/** A client of a user. */
export type ClientResponse = {
  /** It has received everything up to here. */
  cursor: number;
  /** The time of its last connection, to the hour. */
  last_connected: string;
  name: string;
  online: boolean;
  /** The messages that wait for it. */
  waiting: number;
};

/** A live connection. */
export type ConnectionItem = {
  /** The client's address. */
  address: string;
  /** The reader that it is; `null` for one that only looks on. */
  client: string | null;
  /** The start of the session. */
  connected_at: string;
  /** The device that it stands for. */
  device_id: number | null;
  /** The device's name. */
  device_name: string | null;
  /** Its id in this run of the server. */
  id: number;
  /** The number of messages that wait to be written to it. */
  lag: number;
  /** The time of the client's last activity. */
  last_activity: string;
  /** `NO_PROOF` where the client's pings go unanswered while messages are in flight. */
  proof?: "none";
  /** The user. */
  user_id: number;
  /** The user's name; `null` where the user has just been deleted. */
  username: string | null;
};

/** Live connections, a page of them, and counters since the start. */
export type ConnectionsResponse = {
  connections: Array<ConnectionItem>;
  groups: number;
  lagged: number;
  mailbox: MailboxCounters;
  messages: MessageCounters;
  /** The `after` of the next page, where there is one. */
  next?: number;
  refused: number;
  sessions: SessionCounters;
  total_connections: number;
};

/** Body of `POST /api/devices`. */
export type CreateDeviceRequest = {
  /** At least 1024. */
  max_bytes?: number | null;
  model?: string | null;
  name: string;
  primary?: boolean;
  serial?: string | null;
  /** For administrators: the user that it is bound to, instead of the caller. */
  user_id?: number | string | null;
};

/** Body of `POST /api/auth/tokens` and `POST /api/devices/{id}/token`; may be empty. */
export type CreateTokenRequest = {
  /** In seconds from now. */
  expires_in?: number | null;
  kind?: TokenKind | null;
  label?: string | null;
  /** For kind `service`: what the token may do, where that is not everything. */
  scopes?: Array<Scope> | null;
};

/** Body of `POST /api/users`. */
export type CreateUserRequest = {
  password: string;
  /** `user` where none is given. */
  role?: Role | null;
  username: string;
};

/** A new token with its secret, which is shown this once. */
export type CreatedTokenResponse = {
  /** A companion device. */
  device_id: number | null;
  expires_at: string | null;
  /** A stored credential (never the secret itself). */
  id: number;
  kind: TokenKind;
  label: string;
  /** Of a service token: what it may do. */
  scopes?: Array<Scope>;
  token: string;
};

/** The way of delivery. */
export type Delivery = "live" | "queued";

/** A device as its users see it. */
export type DeviceResponse = {
  created_at: string;
  /** A companion device. */
  id: number;
  last_seen: string | null;
  /** The longest payload that it accepts. */
  max_bytes?: number;
  model: string | null;
  name: string;
  online: boolean;
  /** Of the viewer, or, for an administrator who does not have it, of any user. */
  primary: boolean;
  serial: string | null;
  /** The users that it is bound to. */
  user_ids: Array<number>;
};

/** The disk of the data directory. */
export type DiskFigures = {
  /** The free space. */
  free_bytes: number;
  /** The free space below which messages are refused. */
  min_free_bytes: number;
  /** The size of the store. */
  store_bytes: number;
};

/** Body of `POST /api/auth/elevate`. */
export type ElevateRequest = {
  password: string;
};

/** An elevated session. */
export type ElevateResponse = {
  /** `null` where nothing asks for it: for tokens that are not in a cookie, and where the setting is off. */
  elevated_until: string | null;
};

export type Error = {
  /** For programs. */
  code: string;
  data?: {
    /** The missing parameter, of `missing_parameter`. */
    field: string;
  } | Health;
  /** For people; names the field and the remedy. */
  message: string;
  /** Seconds after which to try again. */
  retry_after?: number;
  status: "error";
};

/** The program and its first addresses. */
export type GreetingResponse = {
  login: string;
  name: string;
  version: string;
  websocket: string;
};

/** The results of all checks. As JSON, each is `"ok"` or `"failed"`. */
export type Health = {
  /** The node is in touch with the log of its cluster; absent on one machine. */
  cluster?: "ok" | "failed";
  /** The disk accepted a recent commit. */
  commit: "ok" | "failed";
  /** The free disk space exceeds `storage.min_free_bytes`. */
  disk_space: "ok" | "failed";
  /** The hub delivers published messages. */
  hub: "ok" | "failed";
  /** The server is not shutting down. */
  running: "ok" | "failed";
  /** The store has lost nothing that it had accepted, or the operator has acknowledged it. */
  store: "ok" | "failed";
};

/** The urgency of what needs attention. */
export type Level = "warning" | "error";

/** Body of `POST /api/auth/link`. */
export type LinkRequest = {
  code: string;
};

/** Body of `POST /api/auth/login`. Unknown fields are ignored, as in the guide. */
export type LoginRequest = {
  /** Put the token into a cookie, which no script can read, instead of the reply. */
  cookie?: boolean;
  password: string;
  username: string;
};

/** A log-in: its token, or for a browser the secret that goes with its cookie, and the user. */
export type LoginResponse = {
  csrf?: string;
  token?: string;
  user: LoginUser;
};

/** The user of a log-in. */
export type LoginUser = {
  /** The account of a person or a program. */
  id: number;
  role: Role;
  username: string;
};

/** Counters of the mailboxes since the start. */
export type MailboxCounters = {
  accepted: number;
  delivered: number;
  expired: number;
  refused_disk: number;
  refused_full: number;
  rereads: number;
  strange_acks: number;
};

/** A mailbox that is not empty. */
export type MailboxResponse = {
  /** Of payloads. */
  bytes: number;
  /** The user's or device's; `null` for all. */
  id: number | null;
  messages: number;
  /** The name of the user or the device. */
  name: string | null;
  /** The time at which the oldest message was accepted. */
  oldest: string | null;
  /** The number of clients of a user, of all users for a broadcast; a device is one. */
  readers: number;
  /** `user:7`, `device:3` or `all`. */
  recipient: string;
  /** `user`, `device` or `all`. */
  to: "user" | "device" | "all";
};

/** The caller: its user and its token. */
export type MeResponse = {
  created_at: string;
  /** For a page that was reloaded and has only its cookie. */
  csrf?: string;
  disabled: boolean;
  /** The end of the elevation of a browser's session; `null` where it is not elevated, or nothing asks for it. */
  elevated_until: string | null;
  /** Set where some calls would be refused until the session is elevated. */
  elevation_needed: boolean;
  /** The account of a person or a program. */
  id: number;
  /** A companion device. */
  primary_device_id: number | null;
  role: Role;
  token: TokenResponse;
  username: string;
};

/** Counters of WebSocket messages since the start. */
export type MessageCounters = {
  received: number;
  sent: number;
};

/** A message as it was pushed. */
export type MessageResponse = {
  id: number;
  /** As its sender wrote it. */
  message: unknown;
  /** The sender's user name; absent after POST /api/messages. */
  sender?: string;
  timestamp: string;
  type: string;
  /** The label of the service token that it was sent with; absent without one. */
  via?: string;
};

/** Body of `PUT /api/weather/{name}`. */
export type ObserveRequest = {
  at?: string | null;
  /** QWeather's icon number. */
  icon?: string | null;
  /** Degrees Celsius, a number or its decimal string. */
  temp: number | string;
  text?: string | null;
};

/** A user with at least one live connection. */
export type OnlineUserResponse = {
  connected_since: string;
  connections: number;
  last_activity: string;
  /** The account of a person or a program. */
  user_id: number;
  username: string | null;
};

/** An operation: its number since the start, and the last hundred. */
export type OperationItem = {
  /** At most a hundred; the fields below are about these. */
  count: number;
  failure: number;
  last: string | null;
  max_seconds: number;
  operation: string;
  p50_seconds: number;
  p99_seconds: number;
  /** The number, of the total, that took longer than a second. */
  slow: number;
  success: number;
  total: number;
};

/** The figures of the present moment. */
export type OverviewResponse = {
  /** What needs attention, the most urgent first. */
  attention: Array<Attention>;
  /** The 99th percentile of the last hundred commits. */
  commit_p99_seconds: number;
  /** Live connections. */
  connections: number;
  /** Devices whose messages some connection receives. */
  devices_online: number;
  /** The disk. */
  disk: DiskFigures;
  /** The checks of `/readyz`. */
  health: Health;
  /** `storage.memory_budget`. */
  memory_budget_bytes: number | null;
  /** Resident memory. */
  memory_bytes: number | null;
  /** Pending messages. */
  queue: QueueFigures;
  /** Messages are accepted. */
  ready: boolean;
  /** Messages that come in in a second. */
  received_per_second: number;
  /** Messages that are written to clients in a second. */
  sent_per_second: number;
  /** The time of its start. */
  started_at: string;
  /** The seconds since then. */
  uptime_seconds: number;
  /** Users with at least one, those that only look on not counted. */
  users_online: number;
  /** The version of the server. */
  version: string;
};

/** Body of `POST /api/devices/pair`; may be empty. Either a description of the device, or its device code. */
export type PairRequest = {
  device_code?: null;
} | {
  model?: null;
  name?: null;
  serial?: null;
};

/** The state of a pairing. */
export type PairResponse = {
  /** The code to show. */
  code: string;
  /** The secret to poll with. */
  device_code: string;
  /** In seconds. */
  expires_in: number;
  /** The least time between polls, in seconds. */
  interval: number;
} | {
  /** In seconds. */
  expires_in: number;
  /** The least time between polls, in seconds. */
  interval: number;
  /** `pending`. */
  state: "pending";
} | {
  /** The device as its owner sees it. */
  device: DeviceResponse;
  /** `paired`. */
  state: "paired";
  /** The device's token, this once. */
  token: string;
  /** The owner. */
  user_id: number;
};

/** Durations and outcomes of operations. */
export type PerformanceResponse = {
  operations: Array<OperationItem>;
};

/** The online times of a device in the last day. */
export type PresenceResponse = {
  /** The beginning of the first slot. */
  from: string;
  /** The length of a slot. */
  slot_seconds: number;
  /** For each slot, in order, 1 where the device was online in it. The last one is the present one. */
  slots: Array<0 | 1>;
};

/** The pending messages of all mailboxes. */
export type QueueFigures = {
  /** Bytes of payloads. */
  bytes: number;
  /** Mailboxes that are not empty. */
  mailboxes: number;
  /** Messages. */
  messages: number;
  /** The time at which the oldest was accepted. */
  oldest: string | null;
};

/** The size of one mailbox, or of all. */
export type QueueResponse = {
  /** Of payloads. */
  bytes: number;
  /** Of all: the number of mailboxes that are not empty. */
  mailboxes?: number;
  messages: number;
  /** The time at which the oldest message was accepted. */
  oldest: string | null;
};

/** A queued message. */
export type QueuedResponse = {
  /** Of the payload. */
  bytes: number;
  expires_at: string;
  /** A queued message; assigned in rising order by one writer, and never reused. */
  id: number;
  /** As it is pushed, where the caller may read it. */
  message?: {
    id: number;
    /** As its sender wrote it. */
    message: unknown;
    /** The sender's user name; absent after POST /api/messages. */
    sender?: string;
    timestamp: string;
    type: string;
    /** The label of the service token that it was sent with; absent without one. */
    via?: string;
  };
  queued_at: string;
  /** The account of a person or a program. */
  sender_id: number;
  /** `queued`, or `sent` where it was written to a connection. */
  status: "queued" | "sent";
  type: string;
};

/** A range of time up to the present. */
export type Range = "hour" | "day";

/** A client in the receipt of a message. */
export type ReaderResponse = {
  /** `null` where the time is not known, or the client has passed over the message. */
  acked_at: string | null;
  client: string;
  /** `undeliverable` where the client has passed over the message. */
  status?: "undeliverable";
};

/** The receipt of a message. */
export type ReceiptResponse = {
  acked_at?: string;
  /** The number of connections that it was written to, as far as that is known. */
  deliveries: number;
  /** A companion device. */
  device_id?: number;
  /** The end of a life that ended otherwise than by receipt. */
  ended_at?: string;
  expires_at: string;
  /** A queued message; assigned in rising order by one writer, and never reused. */
  id: number;
  /** The number of such clients that are not in `readers`, if any. */
  more_readers?: number;
  queued_at: string;
  /** Of a user's message: the clients that have received it or passed over it, at most `MAX_READERS`. */
  readers?: Array<ReaderResponse>;
  /** Of a broadcast: the number of users that have received it. */
  received?: number;
  /** The account of a person or a program. */
  sender_id: number;
  sent_at?: string;
  /** `queued`, `sent`, `acked`, `expired`, `cancelled`, `cleared` or `undeliverable`. */
  status: "queued" | "sent" | "acked" | "expired" | "cancelled" | "cleared" | "undeliverable";
  /** `user`, `device` or `all`. */
  to: "user" | "device" | "all";
  /** The account of a person or a program. */
  user_id?: number;
};

/** Body of `POST /api/auth/register`. */
export type RegisterRequest = {
  password: string;
  username: string;
};

/** The rights of an account. */
export type Role = "admin" | "user";

/** A part of what service tokens may do. */
export type Scope = "send" | "broadcast" | "read" | "metrics";

/** Body of `POST /api/messages/device/{id}` and `POST /api/messages/broadcast`. Values stay as they were written. */
export type SendMessageRequest = {
  delivery?: "queued" | null;
} | {
  ttl?: null;
};

/** Body of `POST /api/messages`. Unknown fields are ignored, as in the guide; values stay as they were written. */
export type SendRequest = {
  delivery?: "queued" | null;
} | {
  ttl?: null;
};

/** Body of `POST /api/messages/user/{id}`. Unknown fields are ignored, as in the guide; values stay as they were written. */
export type SendToUserRequest = {
  delivery?: "queued" | null;
} | {
  ttl?: null;
};

/** A sent message. */
export type SentResponse = {
  delivery: Delivery;
  /** Of a queued message. */
  id?: number;
  message: unknown;
  /** The number of connections that it was handed to. */
  recipients: number;
  timestamp: string;
  type: string;
};

/** Samples as columns, of the same length as `at`; `null` where there is none. */
export type SeriesResponse = {
  /** The moments, in seconds since 1970. */
  at: Array<number>;
  commit_p99_ms: Array<number | null>;
  connections: Array<number | null>;
  disk_bytes: Array<number | null>;
  /** The first moment. */
  from: string;
  memory_bytes: Array<number | null>;
  queue_messages: Array<number | null>;
  range: Range;
  received_per_second: Array<number | null>;
  sent_per_second: Array<number | null>;
  step_seconds: number;
};

/** Counters of sessions since the start. */
export type SessionCounters = {
  ended: number;
  started: number;
};

/** Body of `PUT /api/catalog/songs` and `PUT /api/catalog/dances`: the whole list. */
export type SetCatalogRequest = {
  items: Array<CatalogEntry>;
};

/** Body of `PUT /api/devices/{id}/primary`; may be empty. */
export type SetPrimaryRequest = {
  /** For administrators: the user whose primary device it becomes, instead of the caller. */
  user_id?: number | string | null;
};

/** A setting in force. */
export type Setting = {
  /** The value is not the default. */
  changed: boolean;
  /** `section.key`; of the nth `[[handler]]` block, from 0 on: `handler[n].key`. */
  key: string;
  /** The layers hold another value, which takes effect after a restart. */
  restart_pending: boolean;
  /** Set for a secret. */
  secret: boolean;
  /** There is a value, whether or not it is shown. */
  set: boolean;
  /** `default`, `file`, `environment` or `flag`. */
  source: "default" | "file" | "environment" | "flag";
  /** `null` for a secret, and where there is none. */
  value: unknown;
  /** The line of the file, the variable, systemd credential or flag that sets it. */
  where: string | null;
};

/** The configuration in force, with the source of each value. */
export type SettingsResponse = {
  /** The configuration file, where one was read. */
  file: string | null;
  /** In the order of the default file. */
  settings: Array<Setting>;
};

/** A ticket, which stands in a URL instead of the token, once and for a short time. */
export type TicketResponse = {
  /** In seconds. */
  expires_in: number;
  ticket: string;
};

/** The purpose of a token. */
export type TokenKind = "user" | "device" | "service";

/** A token without its secret. */
export type TokenResponse = {
  created_at: string;
  /** A companion device. */
  device_id: number | null;
  expires_at: string | null;
  /** A stored credential (never the secret itself). */
  id: number;
  kind: TokenKind;
  label: string;
  last_used_at: string | null;
  /** Of a service token: what it may do. */
  scopes?: Array<Scope>;
};

/** An account without its password hash. */
export type UserResponse = {
  created_at: string;
  disabled: boolean;
  /** The account of a person or a program. */
  id: number;
  role: Role;
  username: string;
};

/** The operations of the REST API by their `operationId`. */
export interface Operations {
  /** Show name and version */
  get_root: {
    method: "GET";
    path: "/";
    query: undefined;
    body: undefined;
    data: GreetingResponse;
  };
  /** Show the description of the WebSocket */
  get_asyncapi_json: {
    method: "GET";
    path: "/api/asyncapi.json";
    query: undefined;
    body: undefined;
    data: unknown;
  };
  /** List the audit trail, the newest entries first */
  get_audit: {
    method: "GET";
    path: "/api/audit";
    query: {
      /** The `next` of the page before. */
      before?: number;
      /** The length of the page. */
      limit?: number;
      /** Only events of this name. */
      event?: string;
      /** Only what this user did, or what was done to it. */
      user_id?: number;
    };
    body: undefined;
    data: Array<AuditResponse>;
  };
  /** Show the password again */
  post_auth_elevate: {
    method: "POST";
    path: "/api/auth/elevate";
    query: undefined;
    body: ElevateRequest;
    data: ElevateResponse;
  };
  /** Log a browser in with a one-time link */
  post_auth_link: {
    method: "POST";
    path: "/api/auth/link";
    query: undefined;
    body: LinkRequest;
    data: LoginResponse;
  };
  /** Log in */
  post_auth_login: {
    method: "POST";
    path: "/api/auth/login";
    query: undefined;
    body: LoginRequest;
    data: LoginResponse;
  };
  /** Revoke the token of this call */
  post_auth_logout: {
    method: "POST";
    path: "/api/auth/logout";
    query: undefined;
    body: undefined;
    data: unknown;
  };
  /** Show the caller */
  get_auth_me: {
    method: "GET";
    path: "/api/auth/me";
    query: undefined;
    body: undefined;
    data: MeResponse;
  };
  /** Change the password */
  put_auth_password: {
    method: "PUT";
    path: "/api/auth/password";
    query: undefined;
    body: ChangePasswordRequest;
    data: LoginResponse;
  };
  /** Create an account for oneself */
  post_auth_register: {
    method: "POST";
    path: "/api/auth/register";
    query: undefined;
    body: RegisterRequest;
    data: LoginResponse;
  };
  /** Create a ticket for the URL of a WebSocket */
  post_auth_ticket: {
    method: "POST";
    path: "/api/auth/ticket";
    query: undefined;
    body: undefined;
    data: TicketResponse;
  };
  /** Log in, for clients of the original system */
  post_auth_token: {
    method: "POST";
    path: "/api/auth/token";
    query: undefined;
    body: LoginRequest;
    data: LoginResponse;
  };
  /** List tokens */
  get_auth_tokens: {
    method: "GET";
    path: "/api/auth/tokens";
    query: {
      /** The `next` of the page before. */
      after?: number;
      /** The length of the page. */
      limit?: number;
      /** For administrators: the tokens of this user. */
      user_id?: number;
    };
    body: undefined;
    data: Array<TokenResponse>;
  };
  /** Create a token */
  post_auth_tokens: {
    method: "POST";
    path: "/api/auth/tokens";
    query: undefined;
    body: CreateTokenRequest;
    data: CreatedTokenResponse;
  };
  /** Revoke a token */
  delete_auth_tokens_id: {
    method: "DELETE";
    path: "/api/auth/tokens/{id}";
    query: undefined;
    body: undefined;
    data: unknown;
  };
  /** Download a backup */
  get_backup: {
    method: "GET";
    path: "/api/backup";
    query: undefined;
    body: undefined;
    data: unknown;
  };
  /** List the dances */
  get_catalog_dances: {
    method: "GET";
    path: "/api/catalog/dances";
    query: undefined;
    body: undefined;
    data: Array<CatalogEntry>;
  };
  /** Replace the dances */
  put_catalog_dances: {
    method: "PUT";
    path: "/api/catalog/dances";
    query: undefined;
    body: SetCatalogRequest;
    data: Array<CatalogEntry>;
  };
  /** Empty the list of dances */
  delete_catalog_dances: {
    method: "DELETE";
    path: "/api/catalog/dances";
    query: undefined;
    body: undefined;
    data: unknown;
  };
  /** List the songs */
  get_catalog_songs: {
    method: "GET";
    path: "/api/catalog/songs";
    query: undefined;
    body: undefined;
    data: Array<CatalogEntry>;
  };
  /** Replace the songs */
  put_catalog_songs: {
    method: "PUT";
    path: "/api/catalog/songs";
    query: undefined;
    body: SetCatalogRequest;
    data: Array<CatalogEntry>;
  };
  /** Empty the list of songs */
  delete_catalog_songs: {
    method: "DELETE";
    path: "/api/catalog/songs";
    query: undefined;
    body: undefined;
    data: unknown;
  };
  /** List the clients of a user */
  get_clients: {
    method: "GET";
    path: "/api/clients";
    query: {
      /** The `next` of the page before, a name. */
      after?: string;
      /** The length of the page. */
      limit?: number;
      /** For administrators: the clients of this user. */
      user_id?: number;
    };
    body: undefined;
    data: Array<ClientResponse>;
  };
  /** Forget a client */
  delete_clients_name: {
    method: "DELETE";
    path: "/api/clients/{name}";
    query: {
      /** For administrators: the clients of this user. */
      user_id?: number;
    };
    body: undefined;
    data: unknown;
  };
  /** List the devices */
  get_devices: {
    method: "GET";
    path: "/api/devices";
    query: {
      /** The `next` of the page before. */
      after?: number;
      /** The length of the page. */
      limit?: number;
      /** For administrators: the devices of this user. */
      user_id?: number;
    };
    body: undefined;
    data: Array<DeviceResponse>;
  };
  /** Create a device */
  post_devices: {
    method: "POST";
    path: "/api/devices";
    query: undefined;
    body: CreateDeviceRequest;
    data: DeviceResponse;
  };
  /** Claim the device that shows a code */
  post_devices_claim: {
    method: "POST";
    path: "/api/devices/claim";
    query: undefined;
    body: ClaimRequest;
    data: DeviceResponse;
  };
  /** Start or poll a pairing */
  post_devices_pair: {
    method: "POST";
    path: "/api/devices/pair";
    query: undefined;
    body: PairRequest;
    data: PairResponse;
  };
  /** Show a device */
  get_devices_id: {
    method: "GET";
    path: "/api/devices/{id}";
    query: undefined;
    body: undefined;
    data: DeviceResponse;
  };
  /** Change a device */
  patch_devices_id: {
    method: "PATCH";
    path: "/api/devices/{id}";
    query: undefined;
    body: ChangeDeviceRequest;
    data: DeviceResponse;
  };
  /** Delete a device */
  delete_devices_id: {
    method: "DELETE";
    path: "/api/devices/{id}";
    query: undefined;
    body: undefined;
    data: unknown;
  };
  /** Show the online times of a device */
  get_devices_id_presence: {
    method: "GET";
    path: "/api/devices/{id}/presence";
    query: undefined;
    body: undefined;
    data: PresenceResponse;
  };
  /** Make a device the primary one */
  put_devices_id_primary: {
    method: "PUT";
    path: "/api/devices/{id}/primary";
    query: undefined;
    body: SetPrimaryRequest;
    data: DeviceResponse;
  };
  /** Create a token of a device */
  post_devices_id_token: {
    method: "POST";
    path: "/api/devices/{id}/token";
    query: undefined;
    body: CreateTokenRequest;
    data: CreatedTokenResponse;
  };
  /** Send a message to a user, as the original system does */
  post_messages: {
    method: "POST";
    path: "/api/messages";
    query: undefined;
    body: SendRequest;
    data: SentResponse;
  };
  /** Send a message to every user */
  post_messages_broadcast: {
    method: "POST";
    path: "/api/messages/broadcast";
    query: undefined;
    body: SendMessageRequest;
    data: SentResponse;
  };
  /** Send a message to a device */
  post_messages_device_id: {
    method: "POST";
    path: "/api/messages/device/{id}";
    query: undefined;
    body: SendMessageRequest;
    data: SentResponse;
  };
  /** List the retained messages of the caller's mailboxes */
  get_messages_history: {
    method: "GET";
    path: "/api/messages/history";
    query: {
      /** The `next` of the page before. */
      after?: number;
      /** The length of the page. */
      limit?: number;
      /** Only messages after this id. */
      since?: number;
    };
    body: undefined;
    data: Array<MessageResponse>;
  };
  /** Send a message to a user */
  post_messages_user_id: {
    method: "POST";
    path: "/api/messages/user/{id}";
    query: undefined;
    body: SendToUserRequest;
    data: SentResponse;
  };
  /** Show the receipt of a message */
  get_messages_id: {
    method: "GET";
    path: "/api/messages/{id}";
    query: undefined;
    body: undefined;
    data: ReceiptResponse;
  };
  /** Take a message back */
  delete_messages_id: {
    method: "DELETE";
    path: "/api/messages/{id}";
    query: undefined;
    body: undefined;
    data: unknown;
  };
  /** List the connections, with counters since the start */
  get_monitor_connections: {
    method: "GET";
    path: "/api/monitor/connections";
    query: {
      /** The `next` of the page before. */
      after?: number;
      /** The length of the page. */
      limit?: number;
      /** Those of this user. */
      user_id?: number;
      /** Those that stand for this device. */
      device_id?: number;
      /** Those that are this reader. */
      client?: string;
      /** Those from this address or network, such as `10.0.0.0/8`. */
      address?: string;
    };
    body: undefined;
    data: ConnectionsResponse;
  };
  /** Close a connection */
  delete_monitor_connections_id: {
    method: "DELETE";
    path: "/api/monitor/connections/{id}";
    query: undefined;
    body: undefined;
    data: unknown;
  };
  /** Show the figures of the present moment */
  get_monitor_overview: {
    method: "GET";
    path: "/api/monitor/overview";
    query: undefined;
    body: undefined;
    data: OverviewResponse;
  };
  /** Show durations and outcomes of operations */
  get_monitor_performance: {
    method: "GET";
    path: "/api/monitor/performance";
    query: undefined;
    body: undefined;
    data: PerformanceResponse;
  };
  /** Show the figures of the last hour or day */
  get_monitor_series: {
    method: "GET";
    path: "/api/monitor/series";
    query: {
      /** The last hour, every ten seconds, or the last day, every minute. */
      range?: "hour" | "day";
    };
    body: undefined;
    data: SeriesResponse;
  };
  /** Show this document */
  get_openapi_json: {
    method: "GET";
    path: "/api/openapi.json";
    query: undefined;
    body: undefined;
    data: unknown;
  };
  /** Measure all mailboxes together */
  get_queue: {
    method: "GET";
    path: "/api/queue";
    query: undefined;
    body: undefined;
    data: QueueResponse;
  };
  /** Clear all queued messages */
  delete_queue: {
    method: "DELETE";
    path: "/api/queue";
    query: undefined;
    body: undefined;
    data: ClearedResponse;
  };
  /** Measure the mailbox of a device */
  get_queue_device_id: {
    method: "GET";
    path: "/api/queue/device/{id}";
    query: undefined;
    body: undefined;
    data: QueueResponse;
  };
  /** Clear the mailbox of a device */
  delete_queue_device_id: {
    method: "DELETE";
    path: "/api/queue/device/{id}";
    query: undefined;
    body: undefined;
    data: ClearedResponse;
  };
  /** List the queued messages of a device */
  get_queue_device_id_messages: {
    method: "GET";
    path: "/api/queue/device/{id}/messages";
    query: {
      /** The `next` of the page before. */
      after?: number;
      /** The length of the page. */
      limit?: number;
    };
    body: undefined;
    data: Array<QueuedResponse>;
  };
  /** Measure the mailbox of a user */
  get_queue_user_id: {
    method: "GET";
    path: "/api/queue/user/{id}";
    query: undefined;
    body: undefined;
    data: QueueResponse;
  };
  /** Clear the mailbox of a user */
  delete_queue_user_id: {
    method: "DELETE";
    path: "/api/queue/user/{id}";
    query: undefined;
    body: undefined;
    data: ClearedResponse;
  };
  /** List the queued messages of a user */
  get_queue_user_id_messages: {
    method: "GET";
    path: "/api/queue/user/{id}/messages";
    query: {
      /** The `next` of the page before. */
      after?: number;
      /** The length of the page. */
      limit?: number;
    };
    body: undefined;
    data: Array<QueuedResponse>;
  };
  /** List the mailboxes that are not empty */
  get_queues: {
    method: "GET";
    path: "/api/queues";
    query: {
      /** The `next` of the page before, a mailbox. */
      after?: string;
      /** The length of the page. */
      limit?: number;
    };
    body: undefined;
    data: Array<MailboxResponse>;
  };
  /** Show the configuration in force */
  get_settings: {
    method: "GET";
    path: "/api/settings";
    query: undefined;
    body: undefined;
    data: SettingsResponse;
  };
  /** List the users */
  get_users: {
    method: "GET";
    path: "/api/users";
    query: {
      /** The `next` of the page before. */
      after?: number;
      /** The length of the page. */
      limit?: number;
      /** Only the user of that name, or nobody. Services must give it. */
      username?: string;
    };
    body: undefined;
    data: Array<UserResponse>;
  };
  /** Create a user */
  post_users: {
    method: "POST";
    path: "/api/users";
    query: undefined;
    body: CreateUserRequest;
    data: UserResponse;
  };
  /** List the connected users */
  get_users_online: {
    method: "GET";
    path: "/api/users/online";
    query: {
      /** The `next` of the page before. */
      after?: number;
      /** The length of the page. */
      limit?: number;
    };
    body: undefined;
    data: Array<OnlineUserResponse>;
  };
  /** Show a user */
  get_users_id: {
    method: "GET";
    path: "/api/users/{id}";
    query: undefined;
    body: undefined;
    data: UserResponse;
  };
  /** Change a user */
  patch_users_id: {
    method: "PATCH";
    path: "/api/users/{id}";
    query: undefined;
    body: ChangeUserRequest;
    data: UserResponse;
  };
  /** Delete a user */
  delete_users_id: {
    method: "DELETE";
    path: "/api/users/{id}";
    query: undefined;
    body: undefined;
    data: unknown;
  };
  /** Report the observation of a weather station */
  put_weather_name: {
    method: "PUT";
    path: "/api/weather/{name}";
    query: undefined;
    body: ObserveRequest;
    data: unknown;
  };
  /** Check that the process is alive */
  get_healthz: {
    method: "GET";
    path: "/healthz";
    query: undefined;
    body: undefined;
    data: AliveResponse;
  };
  /** Show all metrics */
  get_metrics: {
    method: "GET";
    path: "/metrics";
    query: undefined;
    body: undefined;
    data: unknown;
  };
  /** Check that messages can be accepted */
  get_readyz: {
    method: "GET";
    path: "/readyz";
    query: undefined;
    body: undefined;
    data: Health;
  };
}
