//! Real journal files.

use nbs_core::time::Wall;
use nbsupervisor::journal::Scope;
use nbsupervisor::ports::{LastLines, LogError, LogQuery, LogReader};

use crate::bench::{BEGIN, Bench, Writer, after, app, entry, life, line, next, next_few, texts};

const UNIT: &str = "nbs-app-crm.service";

fn numbered(range: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    range.map(|number| line(number, UNIT, "a1", format!("line {number}").as_bytes())).collect()
}

#[tokio::test]
async fn the_tail_has_the_last_lines_with_times_and_places() {
    let bench = Bench::real();
    bench.file("a.journal", &numbered(0..50));
    let lines = bench.tail(&LogQuery::last(3)).await;
    assert_eq!(texts(lines.clone()), ["line 47", "line 48", "line 49"]);
    assert_eq!(lines[0].at, Some(Wall(BEGIN + 47)));
    assert!(bench.tail(&LogQuery::last(0)).await.is_empty());
    assert_eq!(bench.tail(&LogQuery::last(1000)).await.len(), 50);
    let since = LogQuery { since: Some(Wall(BEGIN + 45)), ..LogQuery::last(1000) };
    assert_eq!(bench.texts(&since).await, ["line 45", "line 46", "line 47", "line 48", "line 49"]);
    assert!(bench.journal().tail(&app("other"), &LogQuery::last(9)).await.unwrap().is_empty());
}

#[tokio::test]
async fn only_what_instance_and_hooks_wrote_is_the_apps() {
    let bench = Bench::real();
    let forged = |number, fields: &[(&str, &[u8])]| {
        let mut all: Vec<(&str, &[u8])> = vec![("MESSAGE", b"forged"), ("NBS_APP", b"crm")];
        all.extend(fields);
        entry(number, &all)
    };
    let suppressed = |number, transport: &[u8]| {
        let fields: [(&str, &[u8]); 5] = [
            ("MESSAGE", b"Suppressed 7 messages from nbs-app-crm.service"),
            ("MESSAGE_ID", b"a596d6fe7bfa4994828e72309e95d61e"),
            ("N_DROPPED", b"7"),
            ("OBJECT_SYSTEMD_UNIT", b"nbs-app-crm.service"),
            ("_TRANSPORT", transport),
        ];
        entry(number, &fields)
    };
    bench.file(
        "a.journal",
        &[
            line(1, "nbs-hook-crm:1.service", "h1", b"hook"),
            line(2, "nbs-hook-crm:2.service", "", b"hook that ended at once"),
            line(3, UNIT, "a1", b"instance"),
            line(4, "nbs-app-crm-2.service", "b1", b"of another app"),
            line(5, "nbs-hook-crm-2:1.service", "b2", b"of another app's hook"),
            forged(6, &[("_TRANSPORT", b"journal")]),
            forged(7, &[("_TRANSPORT", b"journal"), ("_SYSTEMD_UNIT", b"nbsupervisor.service")]),
            forged(
                8,
                &[
                    ("NBS_APP", b"evil"),
                    ("_TRANSPORT", b"journal"),
                    ("_SYSTEMD_UNIT", b"nbs-app-evil.service"),
                    ("_SYSTEMD_SLICE", b"nbsupervisor-apps.slice"),
                ],
            ),
            suppressed(9, b"journal"),
            suppressed(10, b"driver"),
        ],
    );
    // Lines that are not the app's do not count, however few are asked for.
    let expected = [
        "hook",
        "hook that ended at once",
        "instance",
        "… 7 lines were dropped by the journal: they came faster than its rate limit …",
    ];
    assert_eq!(bench.texts(&LogQuery::last(4)).await, expected);
    assert_eq!(bench.texts(&LogQuery::last(2)).await, expected[2..]);
}

#[tokio::test]
async fn messages_of_any_bytes_and_any_length_come_through() {
    let bench = Bench::real();
    let (huge, long) = (vec![b'x'; 3 << 20], vec![b'y'; 100_000]);
    bench.file(
        "a.journal",
        &[
            line(1, UNIT, "a1", b"one\ntwo\ntri"),
            line(2, UNIT, "a1", b"bin \xff\x01"),
            line(3, UNIT, "a1", &huge),
            line(4, UNIT, "a1", &long),
            line(5, UNIT, "a1", b""),
            line(6, UNIT, "a1", b"last"),
        ],
    );
    let lines = bench.texts(&LogQuery::last(100)).await;
    assert_eq!(lines[..4], ["one", "two", "tri", "bin \u{fffd}\u{1}"]);
    assert!(lines[4].starts_with("… a message of about 307"), "{}", lines[4]);
    assert_eq!(lines[5], "y".repeat(64 << 10));
    assert_eq!(lines[6..], ["", "last"]);
    // A place behind the huge one is a place.
    let all = bench.tail(&LogQuery::last(100)).await;
    assert_eq!(bench.texts(&after(all[4].cursor.as_ref().unwrap(), 9)).await.len(), 3);
}

#[tokio::test]
async fn a_reader_goes_on_behind_any_line() {
    let bench = Bench::real();
    let mut entries = numbered(0..5);
    entries.push(line(5, UNIT, "a1", b"one\ntwo\ntri"));
    entries.extend(numbered(6..9));
    bench.file("a.journal", &entries);
    let all = bench.tail(&LogQuery::last(100)).await;
    for (number, seen) in all.iter().enumerate() {
        let rest = bench.tail(&after(seen.cursor.as_ref().unwrap(), 100)).await;
        assert_eq!(rest, all[number + 1..]);
    }
    let two = bench.tail(&after(all[2].cursor.as_ref().unwrap(), 2)).await;
    assert_eq!(two, all[3..5], "the next ones, not the last ones");
}

#[tokio::test]
async fn a_place_that_is_gone_is_said_and_one_that_is_none_is_refused() {
    let bench = Bench::real();
    let old = Bench::real();
    old.file("a.journal", &numbered(0..3));
    bench.file("a.journal", &numbered(10..12));
    let gone = old.tail(&LogQuery::last(1)).await.remove(0).cursor.unwrap();
    let gap = "… the journal no longer has the place to go on from; lines before this may be missing …";
    assert_eq!(bench.texts(&after(&gone, 9)).await, [gap, "line 10", "line 11"]);
    let mut lines = bench.follow(&after(&gone, 9)).await;
    assert_eq!(next_few(&mut lines, 3).await, [gap, "line 10", "line 11"]);
    for cursor in ["x=1", "s=1", "--help", "s=1 2"] {
        let error = bench.journal().tail(&app("crm"), &after(cursor, 9)).await.unwrap_err();
        assert_eq!(error, LogError::BadCursor { app: app("crm"), cursor: cursor.into() });
        let error = bench.journal().follow(&app("crm"), &after(cursor, 9)).await.unwrap_err();
        assert_eq!(error, LogError::BadCursor { app: app("crm"), cursor: cursor.into() });
    }
}

#[tokio::test]
async fn following_gives_the_last_lines_then_new_ones() {
    let bench = Bench::real();
    bench.file("old.journal", &numbered(0..5));
    let mut writer = Writer::new(bench.directory.path(), "new.journal");
    let mut all = bench.follow(&LogQuery::last(2)).await;
    let mut none = bench.follow(&LogQuery::last(0)).await;
    let mut since = bench.follow(&LogQuery { since: Some(Wall(BEGIN + 6)), ..LogQuery::last(9) }).await;
    assert_eq!(next_few(&mut all, 2).await, ["line 3", "line 4"]);
    writer.write(&numbered(6..8));
    for lines in [&mut all, &mut none, &mut since] {
        assert_eq!(next_few(lines, 2).await, ["line 6", "line 7"]);
    }
    writer.write(&numbered(8..9));
    assert_eq!(next(&mut all).await, "line 8");
    // Another file, as after a rotation.
    writer.finish();
    bench.file("newer.journal", &numbered(9..12));
    assert_eq!(next_few(&mut all, 3).await, ["line 9", "line 10", "line 11"]);
}

#[tokio::test]
async fn following_a_log_that_is_not_there_yet_waits_for_it() {
    let bench = Bench::real();
    let mut lines = bench.follow(&LogQuery::last(10)).await;
    bench.file("a.journal", &numbered(0..2));
    assert_eq!(next_few(&mut lines, 2).await, ["line 0", "line 1"]);
}

#[tokio::test]
async fn the_last_lines_of_a_life_are_of_that_life() {
    let bench = Bench::real();
    let long = vec![b'z'; 2000];
    bench.file(
        "a.journal",
        &[
            line(1, UNIT, "a1", b"first life"),
            line(2, UNIT, "a2", b"one"),
            line(3, UNIT, "a2", b"two\ntri"),
            line(4, UNIT, "a2", &long),
            line(5, UNIT, "a3", b"third life"),
            line(6, UNIT, "", b"ended at once"),
        ],
    );
    let journal = bench.journal();
    assert_eq!(journal.last_lines(&life(UNIT, "a2", None), 20).await, ["one", "two", "tri", &"z".repeat(512)]);
    assert_eq!(journal.last_lines(&life(UNIT, "a2", None), 2).await, ["tri", &"z".repeat(512)]);
    assert_eq!(journal.last_lines(&life(UNIT, "a3", None), 20).await, ["third life"]);
    // Lines without a name are the newest life's.
    let began = Some(Wall(BEGIN + 6));
    assert_eq!(journal.last_lines(&life(UNIT, "a4", began), 20).await, ["ended at once"]);
    assert_eq!(journal.last_lines(&life(UNIT, "a3", Some(Wall(BEGIN + 5))), 20).await, ["third life", "ended at once"]);
    assert!(journal.last_lines(&life(UNIT, "a5", Some(Wall(BEGIN + 7))), 20).await.is_empty());
    assert!(journal.last_lines(&life("nbs-app-other.service", "a2", None), 20).await.is_empty());
}

#[tokio::test]
async fn a_users_manager_has_its_own_units() {
    let of = |number, owner: &[u8], unit: &[u8], message: &[u8]| {
        let fields: [(&str, &[u8]); 7] = [
            ("MESSAGE", message),
            ("SYSLOG_IDENTIFIER", b"crm"),
            ("_TRANSPORT", b"stdout"),
            ("_SYSTEMD_UNIT", b"user@1000.service"),
            ("_SYSTEMD_USER_UNIT", unit),
            ("_SYSTEMD_USER_SLICE", b"nbsupervisor-apps.slice"),
            ("_SYSTEMD_OWNER_UID", owner),
        ];
        entry(number, &fields)
    };
    let mut bench = Bench::real();
    bench.file(
        "a.journal",
        &[
            of(1, b"1000", b"nbs-hook-crm:1.service", b"hook"),
            of(2, b"1000", b"nbs-app-crm.service", b"mine"),
            of(3, b"1001", b"nbs-app-crm.service", b"somebody else's"),
            of(4, b"1000", b"nbs-app-evil.service", b"another's"),
            numbered(5..6).concat(),
        ],
    );
    assert_eq!(bench.texts(&LogQuery::last(9)).await, ["line 5"]);
    bench.scope = Scope::User { uid: 1000 };
    assert_eq!(bench.texts(&LogQuery::last(9)).await, ["hook", "mine"]);
}
