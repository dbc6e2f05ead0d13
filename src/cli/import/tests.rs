//! Tests of what is taken from files, and with which ids.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::dump;
use super::found::{Found, Models};
use super::plan::Plan;
use crate::store::{Imported, ImportedDevice, ImportedUser, Role};

const HASH: &str = "pbkdf2_sha256$5$salt$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=";

fn found_with(models: Models, records: &[Value]) -> anyhow::Result<Found> {
    let mut found = Found::new(models);
    dump::read(json!(records).to_string().as_bytes(), |record| found.add(record))?;
    found.check_models()?;
    Ok(found)
}

fn found(records: &[Value]) -> Found {
    found_with(Models::default(), records).unwrap()
}

fn user(pk: impl Into<Value>, username: &str) -> Value {
    user_with(pk, username, &json!({}))
}

fn user_with(pk: impl Into<Value>, username: &str, fields: &Value) -> Value {
    let mut all = json!({"username": username, "password": HASH, "last_login": null, "is_active": true});
    all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({"model": "auth.user", "pk": pk.into(), "fields": all})
}

fn device(pk: impl Into<Value>, fields: &Value) -> Value {
    json!({"model": "device_interaction.device", "pk": pk.into(), "fields": fields})
}

fn binding(user: impl Into<Value>, device: impl Into<Value>, primary: bool) -> Value {
    let fields = json!({"user": user.into(), "device": device.into(), "is_primary": primary});
    json!({"model": "device_interaction.userdevice", "pk": 1, "fields": fields})
}

fn token(secret: &str, user: impl Into<Value>) -> Value {
    json!({"model": "authtoken.token", "pk": secret, "fields": {"user": user.into(), "created": "2024-01-02T03:04:05.678Z"}})
}

fn users(plan: &Plan) -> Vec<&ImportedUser> {
    plan.rows.iter().filter_map(|row| if let Imported::User(user) = row { Some(user) } else { None }).collect()
}

fn devices(plan: &Plan) -> Vec<&ImportedDevice> {
    plan.rows.iter().filter_map(|row| if let Imported::Device(device) = row { Some(device) } else { None }).collect()
}

/// The remarks as `MODEL KEY: REASON`.
fn remarks(plan: &Plan) -> Vec<String> {
    let line = |remark: &super::found::Remark| format!("{} {:?}: {}", remark.model, remark.pk.as_deref(), remark.reason);
    plan.remarks.iter().map(line).collect()
}

#[test]
fn names_that_are_not_valid_or_look_alike_are_not_taken_nor_what_belongs_to_them() {
    let names = [
        ("id:7", "must not begin with id:"),
        ("a\u{200b}b", "remove U+200B"),
        (" x", "single blanks"),
        (&*"x".repeat(151), "1 to 150 characters"),
        ("ANA", "looks like, that of the account with the key 1"),
        ("аnа", "looks like, that of the account with the key 1"),
        ("Ｃonsole", "which stands for the command line"),
        ("", "1 to 150 characters"),
    ];
    for (name, reason) in names {
        let secret = "f".repeat(40);
        let records = [user(1, "ana"), user(2, name), token(&secret, 2), device(9, &json!({"name": "d"})), binding(2, 9, true)];
        let plan = Plan::new(&found(&records), 0, 0);
        assert_eq!((plan.users, plan.tokens, plan.devices), (1, 0, 0), "{name:?}");
        let remarks = remarks(&plan);
        assert!(remarks[0].contains(reason), "{name:?}: {remarks:?}");
        assert_eq!(remarks.iter().filter(|line| line.contains("its user was not taken")).count(), 2, "{remarks:?}");
        assert!(!format!("{:?}", plan.remarks).contains(&secret), "a secret is not repeated");
    }
}

#[test]
fn flags_become_role_and_state() {
    let cases = [
        (json!({}), Role::User, false),
        (json!({"is_active": false}), Role::User, true),
        (json!({"is_active": 0, "is_superuser": 1}), Role::Admin, true),
        (json!({"is_superuser": true, "is_staff": true}), Role::Admin, false),
        (json!({"is_superuser": false, "is_staff": true}), Role::User, false),
    ];
    for (fields, role, disabled) in cases {
        let plan = Plan::new(&found(&[user_with(1, "ana", &fields)]), 0, 0);
        assert_eq!((users(&plan)[0].role, users(&plan)[0].disabled), (role, disabled), "{fields}");
        assert_eq!(plan.has_admin, role == Role::Admin && !disabled);
    }
}

#[test]
fn passwords_that_are_not_read_leave_the_account_without_one() {
    for (stored, remark) in [
        (json!(HASH), None),
        (json!("!rXyz"), None),
        (json!(""), None),
        (json!(null), None),
        (json!("bcrypt$$2b$12$abc"), Some("bcrypt")),
        (json!("pbkdf2_sha256$2000001$salt$aGFzaA=="), Some("2000001 iterations")),
    ] {
        let found = found(&[user_with(1, "ana", &json!({"password": stored})), user(2, "bob")]);
        let plan = Plan::new(&found, 0, 0);
        let kept = stored == HASH;
        assert_eq!(users(&plan)[0].password_hash, if kept { HASH } else { "!" }, "{stored}");
        assert_eq!(found.without_password, u64::from(!kept));
        assert_eq!(
            plan.remarks.iter().map(|r| r.reason.clone()).find(|r| r.contains(remark.unwrap_or("-"))).is_some(),
            remark.is_some()
        );
    }
}

#[test]
fn natural_keys_other_models_and_missing_keys_are_read() {
    let natural = [
        json!({"model": "auth.user", "fields": user(1, "ana")["fields"]}),
        json!({"model": "device_interaction.device", "fields": {"serial_number": "SN-1", "name": "lamp"}}),
        binding(json!(["ana"]), json!(["SN-1"]), true),
        token(&"a".repeat(40), json!(["ana"])),
    ];
    let custom = [
        json!({"model": "Accounts.Account", "pk": "8e1d-uuid", "fields": {"email": "ana@example.com", "password": HASH, "last_login": null}}),
        json!({"model": "things.device", "pk": "x-1", "fields": {"device_name": "lamp", "mac": "AA:BB:CC:DD:EE:FF"}}),
        json!({"model": "things.userdevice", "pk": 1, "fields": {"user": "8e1d-uuid", "device": "x-1", "is_primary": true}}),
        token(&"a".repeat(40), "8e1d-uuid"),
    ];
    for records in [natural, custom] {
        let plan = Plan::new(&found(&records), 4, 5);
        assert_eq!((plan.users, plan.tokens, plan.devices), (1, 1, 1), "{:?}", remarks(&plan));
        assert!(plan.remarks.is_empty(), "{:?}", remarks(&plan));
        let (user, device) = (users(&plan)[0], devices(&plan)[0]);
        assert_eq!((user.id.0, device.id.0), (5, 6));
        assert_eq!((&device.users, &device.primary_of), (&vec![user.id], &vec![user.id]));
    }
}

#[test]
fn models_that_can_be_confused_are_asked_for() {
    let two = [
        user(1, "ana"),
        json!({"model": "shop.customer", "pk": 1, "fields": {"username": "x", "password": "", "last_login": null}}),
    ];
    let error = found_with(Models::default(), &two).unwrap_err().to_string();
    assert!(error.contains("--user-model with one of auth.user, shop.customer"), "{error}");
    let named = Models { user: Some("Shop.Customer".into()), ..Models::default() };
    let found = found_with(named.clone(), &two).unwrap();
    assert_eq!(found.users.len(), 1);
    assert_eq!(found.unread.get("auth.user"), Some(&1));
    let error = found_with(named, &[user(1, "ana")]).unwrap_err().to_string();
    assert!(error.contains("no record of the model shop.customer"), "{error}");
    let devices = [device(1, &json!({})), json!({"model": "other.device", "pk": 1, "fields": {}})];
    assert!(found_with(Models::default(), &devices).unwrap_err().to_string().contains("--device-model"));
}

#[test]
fn foreign_keys_without_a_record_and_duplicates_are_remarked() {
    let records = [
        user(1, "ana"),
        user(1, "other"),
        user(2, "bob"),
        token("short", 1),
        token(&"a".repeat(40), 77),
        token(&"b".repeat(40), 1),
        token(&"b".repeat(40), 2),
        token(&"c/".repeat(20), 2),
        device(1, &json!({"name": "lamp", "serial_number": "AA:BB:CC:DD:EE:FF"})),
        device(2, &json!({"name": "twin", "serial_number": "aabb.ccdd.eeff"})),
        device(2, &json!({"name": "again"})),
        device(3, &json!({"name": "nobody's"})),
        device(4, &json!({"name": "a\u{202e}b", "device_model": "x\ny"})),
        binding(1, 1, true),
        binding(1, 1, true),
        binding(1, 2, true),
        binding(1, 77, false),
        binding(77, 1, false),
        binding(2, 4, false),
        json!({"model": "device_interaction.userdevice", "pk": 9, "fields": {"user": null, "device": 1}}),
        json!({"model": "auth.user", "pk": 5, "fields": {"password": "", "last_login": null}}),
        json!({"model": "sessions.session", "pk": "x", "fields": {}}),
    ];
    let found = found(&records);
    let plan = Plan::new(&found, 0, 0);
    assert_eq!((plan.users, plan.tokens, plan.devices), (2, 1, 3));
    let of: Vec<(u64, &str)> = plan.remarks.iter().map(|remark| (remark.row, remark.reason.as_str())).collect();
    let rows: Vec<u64> = of.iter().map(|(row, _)| *row).collect();
    assert_eq!(rows, [2, 4, 5, 7, 8, 10, 11, 12, 13, 13, 15, 16, 17, 18, 20, 21], "{of:#?}");
    let made = devices(&plan);
    assert_eq!((made[0].serial.as_deref(), made[1].serial.as_deref()), (Some("AA:BB:CC:DD:EE:FF"), None));
    assert_eq!((made[2].name.as_str(), made[2].model.as_deref()), ("device", None));
    assert_eq!((made[0].primary_of.len(), made[1].primary_of.len()), (1, 0), "the first primary device counts");
    assert_eq!(found.unread.get("sessions.session"), Some(&1));
}

#[test]
fn keys_stay_where_they_were_never_given() {
    let records = [user(3, "ana"), user(7, "bob"), user(u64::MAX, "eve"), user(-1, "mallory"), user("x", "dave")];
    let ids = |before: u64| {
        let plan = Plan::new(&found(&records), before, 0);
        assert_eq!(plan.last_user, users(&plan).iter().map(|user| user.id.0).max().unwrap());
        (users(&plan).iter().map(|user| user.id.0).collect::<Vec<_>>(), plan.renumbered.len())
    };
    assert_eq!(ids(0), (vec![3, 7, 8, 9, 10], 3));
    assert_eq!(ids(3), (vec![8, 7, 9, 10, 11], 4));
    assert_eq!(ids(100), (vec![101, 102, 103, 104, 105], 5));
}

#[test]
fn times_are_read_with_and_without_an_offset() {
    for (text, expected) in [
        ("2024-01-02T03:04:05.678Z", Some("2024-01-02T03:04:05.678000+00:00")),
        ("2024-01-02T03:04:05", Some("2024-01-02T03:04:05.000000+00:00")),
        ("2024-01-02T03:04:05+08:00", Some("2024-01-01T19:04:05.000000+00:00")),
        ("yesterday", None),
    ] {
        let plan = Plan::new(&found(&[user_with(1, "ana", &json!({"date_joined": text}))]), 0, 0);
        assert_eq!(users(&plan)[0].created_at.map(|at| at.to_string()).as_deref(), expected, "{text}");
    }
}

proptest! {
    /// Whatever the fields are, a plan holds each name and each id once, and refers to what it holds only.
    #[test]
    fn plans_are_consistent_whatever_the_file_has(
        names in proptest::collection::vec((0..9i64, "[aаAb1 ]{0,2}"), 0..8),
        bound in proptest::collection::vec((0..9i64, 0..5i64, any::<bool>()), 0..12),
        tokens in proptest::collection::vec((0..9i64, 0..4u8), 0..8),
        before in 0..6u64,
    ) {
        let records = names.iter().map(|(pk, name)| user(*pk, name));
        let records = records.chain((0..4).map(|pk| device(pk, &json!({"name": "d", "sn": format!("s{}", pk % 3)}))));
        let records = records.chain(bound.iter().map(|(user, device, primary)| binding(*user, *device, *primary)));
        let records = records.chain(tokens.iter().map(|(user, n)| token(&n.to_string().repeat(40), *user)));
        let found = found(&records.collect::<Vec<_>>());
        let plan = Plan::new(&found, before, before);
        let ids: BTreeSet<u64> = users(&plan).iter().map(|user| user.id.0).collect();
        prop_assert_eq!(ids.len(), plan.users);
        prop_assert!(ids.iter().all(|id| *id > before));
        let mut primaries = BTreeSet::new();
        for device in devices(&plan) {
            prop_assert!(device.id.0 > before && !device.users.is_empty());
            prop_assert!(device.users.iter().all(|user| ids.contains(&user.0)));
            prop_assert!(device.primary_of.iter().all(|user| device.users.contains(user) && primaries.insert(*user)));
        }
        let known = |row: &Imported| !matches!(row, Imported::Token(token) if !ids.contains(&token.user.0));
        prop_assert!(plan.rows.iter().all(known));
        let again = Plan::new(&found, before, before);
        prop_assert_eq!(&again.state, &plan.state, "the same plan each time");
        prop_assert_ne!(Plan::new(&found, before + 1, before).state, again.state);
    }

    #[test]
    fn any_fields_are_read_without_panic(
        model in "auth\\.user|authtoken\\.token|a\\.device|a\\.userdevice",
        value in prop_oneof![Just(json!(null)), Just(json!([])), Just(json!([null])), Just(json!([[1]])), Just(json!({"a": 1})), Just(json!(1.5)), Just(json!("x"))],
        field in "username|password|last_login|user|device|is_primary|name|serial|is_active|date_joined|created",
    ) {
        let mut record = json!({"model": model, "pk": value, "fields": {"user": 1, "device": 1}});
        if model == "auth.user" {
            record["fields"] = json!({"password": "", "last_login": null, "username": "u"});
        }
        record["fields"][field] = value;
        let mut found = Found::new(Models::default());
        for record in [record, user(1, "ana"), binding(1, 1, true)] {
            dump::read(json!([record]).to_string().as_bytes(), |record| found.add(record)).unwrap();
        }
        let _ = Plan::new(&found, 0, 0);
    }
}
