//! The paths that a recipe adds to what the gateway knows.

use nbs_core::limits::RECIPE_PATHS_MAX;
use nbs_core::paths::{AppPath, Paths};

use super::reader::{Complaint, Given, Reader};
use super::value::{Kind, Value};

/// What the gateway knows without a recipe. A path before one of these would take its visitors.
const OWN: [&str; 2] = ["/apps/", "/api/__app/"];

/// Takes `paths`, `shared_paths` and `page_paths`.
pub fn paths(top: &mut Reader<'_>) -> Paths {
    let naming: Vec<AppPath> = list(top, "paths", naming);
    let shared: Vec<String> = list(top, "shared_paths", plain);
    let page: Vec<String> = list(top, "page_paths", plain);
    Paths { naming, shared, page }
}

fn list<T>(
    top: &mut Reader<'_>,
    key: &str,
    take: impl Fn(&mut Reader<'_>, Given<Value>) -> Option<Given<(String, T)>>,
) -> Vec<T> {
    let Some(given) = top.take(key) else { return Vec::new() };
    let items = top.items(&given).unwrap_or_default();
    if items.len() > RECIPE_PATHS_MAX {
        let hint = format!("write at most {RECIPE_PATHS_MAX}; a path that ends with / stands for all that begins so");
        top.notes().complain(&given, Complaint::new(format!("there are {} paths in it", items.len()), hint));
        return Vec::new();
    }
    let (mut seen, mut all) = (Vec::new(), Vec::new());
    for item in items {
        let Some(taken) = take(top, item) else { continue };
        let (path, _) = &taken.value;
        if seen.contains(path) {
            top.notes().complain(&taken, Complaint::new(format!("{path:?} stands here twice"), "remove one"));
            continue;
        }
        seen.push(path.clone());
        all.push(taken.value.1);
    }
    all
}

/// `"/files/"`, or `{ path = "/files/", rewrite = "/files/main/" }`.
fn naming(top: &mut Reader<'_>, item: Given<Value>) -> Option<Given<(String, AppPath)>> {
    let place = item.with(());
    let (path, rewrite) = match &item.value.kind {
        Kind::Text(text) => (Some(item.with(text.clone())), None),
        _ => {
            let mut table = top.sub(item)?;
            let (path, rewrite) = (table.text("path"), table.text("rewrite"));
            if path.is_none() && !table.has("path") {
                let hint = "write path = \"/files/\"";
                table.notes().complain(&place, Complaint::new("it has no path", hint));
            }
            table.finish();
            (path, rewrite)
        }
    };
    let path = checked(top, path?, folder)?;
    if let Some(own) = OWN.into_iter().find(|own| own.starts_with(&path.value) || path.value.starts_with(own)) {
        let text = format!("{:?} and {own} would name apps in two ways", path.value);
        top.notes().complain(&path, Complaint::new(text, "write another path, such as /files/"));
        return None;
    }
    let rewrite = match rewrite {
        Some(rewrite) => Some(checked(top, rewrite, folder)?.value),
        None => None,
    };
    Some(place.with((path.value.clone(), AppPath { path: path.value, rewrite })))
}

fn plain(top: &mut Reader<'_>, item: Given<Value>) -> Option<Given<(String, String)>> {
    let Kind::Text(text) = &item.value.kind else {
        let text = format!("{} is {}, not a text", item.value.kind, item.value.kind.type_name());
        top.notes().complain(&item, Complaint::new(text, "write \"/assets/\""));
        return None;
    };
    let path = checked(top, item.with(text.clone()), path)?;
    let own = OWN.into_iter().find(|own| path.value.starts_with(own));
    if let Some(own) = own.or_else(|| (path.value == "/").then_some("/")) {
        let text = match own {
            "/" => "\"/\" stands for every path, also for those that are no app's".to_string(),
            own => format!("{:?} names an app by {own}", path.value),
        };
        top.notes().complain(&path, Complaint::new(text, "write what pages ask for, such as /assets/"));
        return None;
    }
    Some(path.with((path.value.clone(), path.value.clone())))
}

fn checked(
    top: &Reader<'_>,
    given: Given<String>,
    check: impl Fn(&str) -> Result<(), Complaint>,
) -> Option<Given<String>> {
    match check(&given.value) {
        Ok(()) => Some(given),
        Err(complaint) => {
            top.notes().complain(&given, complaint);
            None
        }
    }
}

/// A path as browsers write it, so that it is compared as it comes.
fn path(text: &str) -> Result<(), Complaint> {
    let bad = |why: &str, hint: &str| Err(Complaint::new(format!("{text:?} {why}"), hint));
    if !text.starts_with('/') {
        return bad("is not an absolute path", "begin it with /");
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains(['%', '?', '#', '\\', '{', '}']) {
        return bad("is not a plain path", "write it without %, ?, # and placeholders");
    }
    if text.contains("//") || text.split('/').any(|part| part == "." || part == "..") {
        return bad("is not a plain path", "write it without empty segments, . and ..");
    }
    if text.len() > nbs_core::limits::RECIPE_PATH_LEN_MAX {
        return bad("is too long", "write a shorter one");
    }
    Ok(())
}

/// A path after which the app's ID can stand.
fn folder(text: &str) -> Result<(), Complaint> {
    path(text)?;
    match text.ends_with('/') {
        true => Ok(()),
        false => Err(Complaint::new(format!("{text:?} does not end with /"), format!("write \"{text}/\""))),
    }
}
