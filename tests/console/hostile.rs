//! What apps and people write is shown, and never becomes part of a page.

use std::sync::Arc;

use nbs_core::time::{Mono, Now};
use nbsupervisor::entry::FleetView;

use crate::entry::{Memory, NOW, app, environment, local};
use crate::room::serve;

const EVIL: &str = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>";

#[tokio::test]
async fn markup_from_elsewhere_stays_text() {
    let record = Arc::new(Memory::default());
    let (entry, desk) = nbsupervisor::entry::desk(record, 8);
    let mut hostile = app("hostile");
    let mut spec = (*hostile.spec).clone();
    spec.title = Some(EVIL.into());
    spec.labels.insert("team".into(), EVIL.into());
    spec.env.insert("NOTE".into(), EVIL.into());
    hostile.spec = Arc::new(spec);
    let mut report = (**hostile.instances[0].report.as_ref().unwrap()).clone();
    report.reason = Some(nbs_core::reason::Reason::new(nbs_core::reason::ReasonCode::GaveUp, EVIL));
    report.progress = Some(EVIL.into());
    report.version = Some(EVIL.into());
    report.notes = vec![EVIL.into()];
    report.last_log = vec![EVIL.into()];
    hostile.instances[0].report = Some(Arc::new(report));
    let mut view = FleetView::default();
    view.apps.insert(hostile.spec.name.clone(), Arc::new(hostile));
    view.environments.insert(local(), Arc::new(environment()));
    view.read_only = Some(EVIL.into());
    desk.publish(view, &[], &[], false);
    let now = Arc::new(|| Now { mono: Mono::default(), wall: NOW });
    let room = serve(entry, None, Some([local()].into()), now).await;
    // A queue nobody tells of would be waited for.
    drop(desk);

    for path in ["/", "/console/apps/hostile", "/console/apps/hostile/remove", "/?q=%3Cscript%3Ealert(3)%3C/script%3E"]
    {
        let answer = room.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert!(!answer.text.contains("<img") && !answer.text.contains("<script>"), "{path}: {}", answer.text);
        assert!(answer.text.contains("&lt;script&gt;"), "{path} shows it: {}", answer.text);
    }
    let page = room.get("/console/apps/hostile").await.text;
    assert!(
        page.matches("&lt;img src=x").count() >= 7,
        "title, label, variable, reason, progress, version, note, log: {page}"
    );
    assert!(page.contains("&lt;b&gt;from the log&lt;/b&gt;"), "{page}");
    let nowhere = room.get("/console/apps/%3Cscript%3E").await;
    assert!(nowhere.status == 404 && !nowhere.text.contains("<script>"), "{nowhere:?}");
}
