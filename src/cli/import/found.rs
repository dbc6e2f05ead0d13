//! The records of a file of `dumpdata` that matter here: accounts, tokens, devices and their bindings.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::bail;
use serde::Serialize;
use serde_json::{Map, Value};

use super::dump::Record;
use crate::auth::{NO_PASSWORD, Pbkdf2};
use crate::core::names::{CONSOLE, fold, looks, prepare_username};
use crate::core::text::check_text;
use crate::core::time::Timestamp;
use crate::store::{Role, TokenHash};

/// The most records of accounts, tokens, devices and bindings; they are held in memory.
const MAX_RECORDS: usize = 500_000;
/// The most models that are told apart among those that are not read.
const MAX_MODELS: usize = 1000;
/// The shortest token: a shorter one could be guessed. Those of Django REST framework have 40 hexadecimal digits.
const MIN_TOKEN_BYTES: usize = 32;
/// The longest token that is ever looked up.
const MAX_TOKEN_BYTES: usize = 128;

/// The model of tokens.
const TOKEN: &str = "authtoken.token";

/// The names that fields of devices have.
const NAME_FIELDS: [&str; 4] = ["name", "device_name", "nickname", "title"];
const SERIAL_FIELDS: [&str; 8] = ["serial", "serial_number", "serial_no", "sn", "device_sn", "device_id", "mac_address", "mac"];
const MODEL_FIELDS: [&str; 4] = ["model", "device_model", "device_type", "type"];
const CREATED_FIELDS: [&str; 4] = ["created_at", "created", "date_joined", "created_time"];

/// The models that the command line names; `None` where they are recognised.
#[derive(Debug, Clone, Default)]
pub(super) struct Models {
    /// Of accounts.
    pub(super) user: Option<String>,
    /// Of devices.
    pub(super) device: Option<String>,
    /// Of the devices of each user.
    pub(super) binding: Option<String>,
}

/// Something in the file that was not taken, or not as it is there.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Remark {
    /// The model of the record.
    pub(super) model: String,
    /// Its key; that of a token, which is a secret, is left out.
    pub(super) pk: Option<String>,
    /// Its position in the file.
    pub(super) row: u64,
    /// The reason.
    pub(super) reason: String,
}

/// A record's place in the file, for remarks.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    model: String,
    pk: Option<String>,
    row: u64,
}

impl Origin {
    fn of(record: &Record) -> Self {
        let pk = if record.model == TOKEN { None } else { key(&record.pk) };
        Self { model: record.model.clone(), pk, row: record.row }
    }

    /// Returns a remark on this record.
    pub(super) fn remark(&self, reason: impl ToString) -> Remark {
        Remark { model: self.model.clone(), pk: self.pk.clone(), row: self.row, reason: reason.to_string() }
    }
}

/// The record that a foreign key names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Reference {
    /// By its key.
    Key(String),
    /// By its natural key.
    Natural(String),
}

/// An account of the file.
#[derive(Debug)]
pub(super) struct FoundUser {
    /// Its key, where it is a number that can stay.
    pub(super) number: Option<u64>,
    pub(super) username: String,
    pub(super) role: Role,
    pub(super) disabled: bool,
    pub(super) password_hash: String,
    pub(super) created_at: Option<Timestamp>,
    pub(super) origin: Origin,
}

/// A device of the file.
#[derive(Debug)]
pub(super) struct FoundDevice {
    /// Its key, where it is a number that can stay.
    pub(super) number: Option<u64>,
    pub(super) name: String,
    pub(super) serial: Option<String>,
    pub(super) model: Option<String>,
    pub(super) created_at: Option<Timestamp>,
    pub(super) origin: Origin,
}

/// A token of the file.
#[derive(Debug)]
pub(super) struct FoundToken {
    pub(super) hash: TokenHash,
    pub(super) user: Reference,
    pub(super) created_at: Option<Timestamp>,
    pub(super) origin: Origin,
}

/// A device of a user.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) user: Reference,
    pub(super) device: Reference,
    pub(super) primary: bool,
    pub(super) origin: Origin,
}

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Found {
    models: Models,
    pub(super) users: Vec<FoundUser>,
    pub(super) devices: Vec<FoundDevice>,
    pub(super) tokens: Vec<FoundToken>,
    pub(super) bindings: Vec<Binding>,
    /// What was not taken, or not as it is in the file.
    pub(super) remarks: Vec<Remark>,
    /// The number of records of each model that is not read.
    pub(super) unread: BTreeMap<String, u64>,
    /// The number of accounts without a password that can be used.
    pub(super) without_password: u64,
    /// The accounts by their references; `None` for one that is not taken.
    pub(super) user_places: HashMap<Reference, Option<usize>>,
    /// The devices by their references.
    pub(super) device_places: HashMap<Reference, usize>,
    /// The forms of the names that are taken, with the accounts.
    name_forms: HashMap<String, usize>,
    /// The forms of the serials that are taken.
    serial_forms: BTreeSet<String>,
    token_hashes: BTreeSet<[u8; 32]>,
    user_models: BTreeSet<String>,
    device_models: BTreeSet<String>,
    binding_models: BTreeSet<String>,
}

/// Returns a key as text; `None` where there is none.
fn key(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Returns the record that the value of a foreign key names.
fn reference(value: Option<&Value>) -> Option<Reference> {
    match value? {
        Value::Array(parts) => natural(&parts.iter().map(key).collect::<Option<Vec<_>>>()?),
        value => key(value).map(Reference::Key),
    }
}

fn natural(parts: &[String]) -> Option<Reference> {
    (!parts.is_empty()).then(|| Reference::Natural(parts.join("\0")))
}

/// Returns the first of the fields that has a text.
fn text(fields: &Map<String, Value>, names: &[&str]) -> Option<String> {
    let text = |name: &&str| key(fields.get(*name)?).map(|text| text.trim().to_owned());
    names.iter().filter_map(text).find(|text| !text.is_empty())
}

/// Returns a flag; a database without a type for them dumps 0 and 1.
fn flag(fields: &Map<String, Value>, name: &str, default: bool) -> bool {
    match fields.get(name) {
        Some(Value::Bool(value)) => *value,
        Some(Value::Number(number)) => number.as_u64() != Some(0),
        _ => default,
    }
}

/// Returns the time of creation; one without an offset is UTC, as Django stores it.
fn created(fields: &Map<String, Value>) -> Option<Timestamp> {
    let text = CREATED_FIELDS.iter().find_map(|name| fields.get(*name)?.as_str())?;
    text.parse().or_else(|_| format!("{text}Z").parse()).ok()
}

impl Found {
    /// Nothing yet, to be read with those models.
    pub(super) fn new(models: Models) -> Self {
        let lower = |name: Option<String>| name.map(|name| name.to_ascii_lowercase());
        let Models { user, device, binding } = models;
        Self { models: Models { user: lower(user), device: lower(device), binding: lower(binding) }, ..Self::default() }
    }

    /// Adds a record.
    ///
    /// # Errors
    /// More records than are held in memory.
    pub(super) fn add(&mut self, record: Record) -> anyhow::Result<()> {
        let Models { user, device, binding } = &self.models;
        let is = |named: &Option<String>, usual: bool| named.as_ref().map_or(usual, |named| *named == record.model);
        let has = |name: &str| record.fields.contains_key(name);
        // Every model of accounts derives from AbstractBaseUser, which has these two.
        if is(user, has("password") && has("last_login")) {
            self.user_models.insert(record.model.clone());
            self.add_user(&record);
        } else if record.model == TOKEN {
            self.add_token(&record);
        } else if is(binding, record.model.ends_with(".userdevice")) {
            self.binding_models.insert(record.model.clone());
            self.add_binding(&record);
        } else if is(device, record.model.ends_with(".device")) {
            self.device_models.insert(record.model.clone());
            self.add_device(&record);
        } else {
            let known = self.unread.len() < MAX_MODELS || self.unread.contains_key(&record.model);
            *self.unread.entry(if known { record.model } else { "others".into() }).or_default() += 1;
        }
        let count = self.users.len() + self.devices.len() + self.tokens.len() + self.bindings.len() + self.remarks.len();
        if count > MAX_RECORDS {
            bail!("the file has more than {MAX_RECORDS} accounts, tokens and devices");
        }
        Ok(())
    }

    /// Checks that no two models play the same part.
    ///
    /// # Errors
    /// Several models that could be meant, or one that was named and is not in the file.
    pub(super) fn check_models(&self) -> anyhow::Result<()> {
        let parts = [
            ("--user-model", &self.user_models, &self.models.user),
            ("--device-model", &self.device_models, &self.models.device),
            ("--binding-model", &self.binding_models, &self.models.binding),
        ];
        for (flag, found, named) in parts {
            if found.len() > 1 {
                let names: Vec<&str> = found.iter().map(String::as_str).collect();
                bail!("the file has several models that could be meant; pass {flag} with one of {}", names.join(", "));
            }
            if let (Some(named), true) = (named, found.is_empty()) {
                bail!("the file has no record of the model {named}, which {flag} names");
            }
        }
        Ok(())
    }

    /// Notes the references of a record; returns `false`, with a remark, where another has one of them.
    fn is_duplicate(&mut self, origin: &Origin, references: &[Reference], known: impl Fn(&Self, &Reference) -> bool) -> bool {
        let duplicate = references.iter().any(|reference| known(self, reference));
        if duplicate {
            self.remarks.push(origin.remark("it is there twice; the first one counts"));
        }
        duplicate
    }

    fn add_user(&mut self, record: &Record) {
        let (origin, fields) = (Origin::of(record), &record.fields);
        let named = ["username", "email", "phone", "mobile"].iter().find_map(|name| key(fields.get(*name)?));
        let Some(typed) = named else { return self.remarks.push(origin.remark("it has no username")) };
        let pk = key(&record.pk).map(Reference::Key);
        let references: Vec<Reference> = pk.into_iter().chain(natural(std::slice::from_ref(&typed))).collect();
        if self.is_duplicate(&origin, &references, |found, reference| found.user_places.contains_key(reference)) {
            return;
        }
        let place = match self.checked_name(&typed) {
            Ok(username) => {
                let password_hash = self.password(fields, &origin);
                let staff = flag(fields, "is_staff", false);
                let role = if flag(fields, "is_superuser", false) { Role::Admin } else { Role::User };
                if staff && role == Role::User {
                    let reason =
                        "it is staff and no superuser, and becomes a user; `qy-lty user set-role` makes it an administrator";
                    self.remarks.push(origin.remark(reason));
                }
                let at = self.users.len();
                self.name_forms.extend(looks(&username).own.into_iter().chain([fold(&username)]).map(|form| (form, at)));
                self.users.push(FoundUser {
                    number: record.pk.as_u64(),
                    username,
                    role,
                    disabled: !flag(fields, "is_active", true),
                    password_hash,
                    created_at: created(fields),
                    origin,
                });
                Some(at)
            }
            Err(reason) => {
                self.remarks.push(origin.remark(reason));
                None
            }
        };
        self.user_places.extend(references.into_iter().map(|reference| (reference, place)));
    }

    /// Returns the form in which a name is stored, unless it is not valid here or that of another account in the file at a glance.
    fn checked_name(&self, typed: &str) -> Result<String, String> {
        let username = prepare_username(typed).map_err(|error| format!("username {error}"))?;
        let of_new = looks(&username);
        if fold(&username) == CONSOLE || of_new.like(&looks(CONSOLE)) {
            return Err(format!("username is, or looks like, {CONSOLE}, which stands for the command line"));
        }
        let other = of_new.foreign.iter().chain([&fold(&username)]).find_map(|form| self.name_forms.get(form));
        match other {
            Some(&other) => {
                let Origin { pk, row, .. } = &self.users[other].origin;
                let which = pk.as_ref().map_or_else(|| format!("in row {row}"), |pk| format!("with the key {pk}"));
                Err(format!("username is the same as, or looks like, that of the account {which}"))
            }
            None => Ok(username),
        }
    }

    /// Returns the stored form of a password; that of an account without one where it is none that can be read.
    fn password(&mut self, fields: &Map<String, Value>, origin: &Origin) -> String {
        let stored = fields.get("password").and_then(Value::as_str).unwrap_or_default();
        if !stored.is_empty() && !stored.starts_with(NO_PASSWORD) {
            match Pbkdf2::parse(stored) {
                Ok(_) => return stored.to_owned(),
                Err(error) => {
                    self.remarks.push(origin.remark(format!("{error}; set one with `qy-lty user set-password`")));
                }
            }
        }
        self.without_password += 1;
        NO_PASSWORD.to_owned()
    }

    fn add_token(&mut self, record: &Record) {
        let origin = Origin::of(record);
        let secret = key(&record.pk).or_else(|| key(record.fields.get("key")?)).unwrap_or_default();
        let length = MIN_TOKEN_BYTES..=MAX_TOKEN_BYTES;
        if !length.contains(&secret.len()) || !secret.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b'?' && b != b'#')
        {
            let reason =
                format!("a token must have {MIN_TOKEN_BYTES} to {MAX_TOKEN_BYTES} characters that can stand in an address");
            return self.remarks.push(origin.remark(reason));
        }
        let Some(user) = reference(record.fields.get("user")) else {
            return self.remarks.push(origin.remark("it has no user"));
        };
        let hash = TokenHash::of(&secret);
        if !self.token_hashes.insert(hash.bytes()) {
            return self.remarks.push(origin.remark("it is there twice; the first one counts"));
        }
        self.tokens.push(FoundToken { hash, user, created_at: created(&record.fields), origin });
    }

    fn add_device(&mut self, record: &Record) {
        let (origin, fields) = (Origin::of(record), &record.fields);
        let serial = text(fields, &SERIAL_FIELDS);
        let pk = key(&record.pk).map(Reference::Key);
        let by_serial = serial.clone().and_then(|serial| natural(&[serial]));
        if self.is_duplicate(&origin, pk.as_slice(), |found, reference| found.device_places.contains_key(reference)) {
            return;
        }
        let name = text(fields, &NAME_FIELDS).unwrap_or_else(|| serial.clone().unwrap_or_else(|| "device".into()));
        let mut checked = |what: &str, text: Option<String>, min: usize, instead: &str| match text
            .as_deref()
            .map_or(Ok(()), |given| check_text(what, Some(given), min))
        {
            Ok(()) => text,
            Err(error) => {
                self.remarks.push(origin.remark(format!("{error}; the device comes {instead}")));
                None
            }
        };
        let name = checked("name", Some(name), 1, "as \"device\"").unwrap_or_else(|| "device".into());
        let mut serial = checked("serial", serial, 1, "without a serial");
        let model = checked("model", text(fields, &MODEL_FIELDS), 0, "without a model");
        if let Some(form) = serial.as_deref().map(crate::core::names::fold_serial)
            && !self.serial_forms.insert(form)
        {
            self.remarks
                .push(origin.remark("another device has the serial, perhaps in another spelling; the device comes without one"));
            serial = None;
        }
        let at = self.devices.len();
        self.device_places.extend(pk.map(|reference| (reference, at)));
        if let Some(reference) = by_serial {
            self.device_places.entry(reference).or_insert(at);
        }
        let (number, created_at) = (record.pk.as_u64(), created(fields));
        self.devices.push(FoundDevice { number, name, serial, model, created_at, origin });
    }

    fn add_binding(&mut self, record: &Record) {
        let origin = Origin::of(record);
        let (user, device) = (reference(record.fields.get("user")), reference(record.fields.get("device")));
        match (user, device) {
            (None, _) => self.remarks.push(origin.remark("it has no user")),
            (_, None) => self.remarks.push(origin.remark("it has no device")),
            (Some(user), Some(device)) => {
                self.bindings.push(Binding { user, device, primary: flag(&record.fields, "is_primary", false), origin });
            }
        }
    }
}
