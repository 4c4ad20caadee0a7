use super::*;

const SYSTEM: Scope = Scope::System;

fn app(name: &str) -> AppId {
    AppId::parse(name).unwrap()
}

fn texts(app_name: &str, json: &str) -> Vec<String> {
    let entry = Entry::parse(json.as_bytes()).expect("an entry");
    entry.lines(&app(app_name), SYSTEM).into_iter().map(|line| line.text).collect()
}

/// An entry as systemd 252 and 257 write it, with these fields too.
fn json(fields: &str) -> String {
    format!(
        "{{\"_TRANSPORT\":\"stdout\",{fields},\"_BOOT_ID\":\"aee42aecb0d941e89224bfa80b73c404\",\
         \"__CURSOR\":\"s=710b;i=37;b=aee4;m=7021bd4a;t=660ea194e14c6;x=b433\",\"__SEQNUM\":\"55\",\
         \"__REALTIME_TIMESTAMP\":\"1795408423425222\",\"__MONOTONIC_TIMESTAMP\":\"1881259338\"}}"
    )
}

fn of_crm(message: &str) -> String {
    json(&format!("\"_SYSTEMD_UNIT\":\"nbs-app-crm.service\",\"MESSAGE\":{message}"))
}

#[test]
fn a_line_has_its_time_and_its_place() {
    let entry = Entry::parse(of_crm("\"hello\"").as_bytes()).unwrap();
    let cursor = "s=710b;i=37;b=aee4;m=7021bd4a;t=660ea194e14c6;x=b433";
    assert_eq!(
        entry.lines(&app("crm"), SYSTEM),
        [LogLine { at: Some(Wall(1_795_408_423_425)), text: "hello".into(), cursor: Some(cursor.into()) }]
    );
    assert_eq!(entry.cursor(), Some(cursor));
}

#[test]
fn bytes_null_and_several_values_are_read() {
    assert_eq!(texts("crm", &of_crm("[97,9,98,32,27,91,51,49,109]")), ["a\tb \x1b[31m"]);
    assert_eq!(texts("crm", &of_crm("[98,105,110,32,255,254]")), ["bin \u{fffd}\u{fffd}"]);
    assert_eq!(texts("crm", &of_crm("[-61,-92]")), ["ä"]);
    assert_eq!(texts("crm", &of_crm("null")), [""; 0]);
    assert_eq!(texts("crm", &of_crm("\"\"")), [""]);
    assert_eq!(texts("crm", &of_crm("[\"one\",null,[116,119,111]]")), ["one", "two"]);
    assert_eq!(texts("crm", &json("\"_SYSTEMD_UNIT\":\"nbs-app-crm.service\"")), [""; 0]);
}

#[test]
fn a_message_of_several_lines_has_a_place_behind_each() {
    let entry = Entry::parse(of_crm("\"one\\ntwo\\r\\n\\ntri\\n\"").as_bytes()).unwrap();
    let lines = entry.lines(&app("crm"), SYSTEM);
    let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(texts, ["one", "two", "", "tri"]);
    let places: Vec<&str> = lines.iter().map(|line| line.cursor.as_deref().unwrap()).collect();
    assert!(places[0].ends_with("b433#1") && places[2].ends_with("b433#3") && places[3].ends_with("x=b433"));
}

#[test]
fn a_line_is_an_apps_by_what_journald_says_only() {
    assert_eq!(texts("crm", &json("\"_SYSTEMD_UNIT\":\"nbs-hook-crm:2.service\",\"MESSAGE\":\"hook\"")), ["hook"]);
    for fields in [
        // From another app, from outside, and with its unit given twice.
        "\"_SYSTEMD_UNIT\":\"nbs-app-evil.service\",\"NBS_APP\":[\"crm\",\"evil\"],\"MESSAGE\":\"forged\"",
        "\"NBS_APP\":\"crm\",\"MESSAGE\":\"forged\"",
        "\"_SYSTEMD_UNIT\":[\"nbs-app-crm.service\",\"x.service\"],\"MESSAGE\":\"forged\"",
        // What systemd says about the unit.
        "\"_SYSTEMD_UNIT\":\"init.scope\",\"UNIT\":\"nbs-app-crm.service\",\"MESSAGE\":\"Started\"",
        // A user's unit of the same name.
        "\"_SYSTEMD_UNIT\":\"user@1000.service\",\"_SYSTEMD_USER_UNIT\":\"nbs-app-crm.service\",\"MESSAGE\":\"other\"",
    ] {
        assert_eq!(texts("crm", &json(fields)), [""; 0], "{fields}");
    }
}

#[test]
fn a_users_units_are_those_of_that_user() {
    let line = |owner: &str| {
        let fields = format!(
            "\"_SYSTEMD_UNIT\":\"user@{owner}.service\",\"_SYSTEMD_USER_UNIT\":\"nbs-app-crm.service\",\
             \"_SYSTEMD_OWNER_UID\":\"{owner}\",\"MESSAGE\":\"mine\""
        );
        Entry::parse(json(&fields).as_bytes()).unwrap().lines(&app("crm"), Scope::User { uid: 1000 })
    };
    assert_eq!((line("1000").len(), line("1001").len()), (1, 0));
}

#[test]
fn what_journald_dropped_is_said_and_cannot_be_made_up() {
    let word = |transport: &str, app: &str| {
        format!(
            "{{\"_SYSTEMD_UNIT\":\"systemd-journald.service\",\"N_DROPPED\":\"625\",\"_TRANSPORT\":\"{transport}\",\
             \"OBJECT_SYSTEMD_UNIT\":\"nbs-app-{app}.service\",\"MESSAGE_ID\":\"{DROPPED_ID}\",\"__CURSOR\":\"s=1\",\
             \"MESSAGE\":\"Suppressed 625 messages from nbs-app-{app}.service\",\"PRIORITY\":\"6\"}}"
        )
    };
    assert_eq!(
        texts("noisy", &word("driver", "noisy")),
        ["… 625 lines were dropped by the journal: they came faster than its rate limit …"]
    );
    assert_eq!(texts("crm", &word("driver", "noisy")), [""; 0]);
    assert_eq!(texts("noisy", &word("journal", "noisy")), [""; 0]);
}

#[test]
fn what_is_no_entry_is_none() {
    for line in ["", "-- No entries --", "{", "{}", "[]", "{\"__CURSOR\":7}", "{\"__CURSOR\":\"s=1\",\"MESSAGE\":{}}"] {
        assert!(Entry::parse(line.as_bytes()).is_none(), "{line}");
    }
    assert!(Entry::parse(of_crm("[300]").as_bytes()).is_none());
}

#[test]
fn of_a_message_that_is_too_long_the_owner_and_the_place_are_known() {
    // The message says what another field looks like; its quotes are escaped there.
    let whole = of_crm("\"\\\"__CURSOR\\\":\\\"s=0\\\" and so on");
    let (head, tail) = whole.split_at(whole.find("so on").unwrap());
    let lines = Entry::too_long(head.as_bytes(), tail.as_bytes(), 5 << 20).lines(&app("crm"), SYSTEM);
    assert_eq!(lines[0].text, "… a message of about 5120 KiB is left out …");
    assert_eq!(lines[0].cursor.as_deref(), Some("s=710b;i=37;b=aee4;m=7021bd4a;t=660ea194e14c6;x=b433"));
    assert_eq!(lines[0].at, Some(Wall(1_795_408_423_425)));
}

#[test]
fn a_long_line_is_cut_between_letters() {
    let long = format!("\"{}\"", "ä".repeat(LINE_MAX));
    let lines = texts("crm", &of_crm(&long));
    assert_eq!((lines[0].len(), lines.len()), (LINE_MAX, 1));
    let invalid = text(&[0xff; 10], 10);
    assert_eq!(invalid.len(), 9);
}
