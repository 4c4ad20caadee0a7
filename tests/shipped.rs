//! Every configuration file and recipe that is shipped is a good one.

use std::fs;
use std::path::{Path, PathBuf};

use nbsupervisor::config::{Origin, Sources, load, load_recipe_file};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn etc() -> PathBuf {
    root().join("etc")
}

fn root_with(config_file: PathBuf) -> Sources {
    Sources { config_file: Some(config_file), ..Sources::default() }
}

#[test]
fn the_shipped_configuration_loads_and_sets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (shipped, empty) = (dir.path().join("shipped.toml"), dir.path().join("empty.toml"));
    fs::copy(etc().join("nbsupervisor.toml"), &shipped).unwrap();
    fs::write(&empty, "").unwrap();
    let (shipped, empty) = (load(&root_with(shipped)).unwrap(), load(&root_with(empty)).unwrap());
    assert_eq!(shipped.config, empty.config);
    assert!(shipped.settings.iter().all(|setting| setting.origin == Origin::Default));
}

#[test]
fn the_shipped_configuration_shows_every_key_with_its_default() {
    let text = fs::read_to_string(etc().join("nbsupervisor.toml")).unwrap();
    // A commented key has no space after its #, prose has one.
    let uncommented: Vec<&str> =
        text.lines().map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line)).collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("nbsupervisor.toml");
    fs::write(&file, uncommented.join("\n")).unwrap();
    let loaded = load(&root_with(file)).unwrap();
    let missing: Vec<_> = loaded.settings.iter().filter(|s| s.origin == Origin::Default).map(|s| &s.key).collect();
    assert!(missing.is_empty(), "not in etc/nbsupervisor.toml: {missing:?}");
    let defaults = load(&Sources { set: vec!["mode=standalone".into()], ..root_with(etc().join("nbsupervisor.toml")) });
    assert_eq!(loaded.config, defaults.unwrap().config);
}

#[test]
fn each_deployment_in_the_shipped_variables_is_a_good_one() {
    let text = fs::read_to_string(etc().join("default/nbsupervisor")).unwrap();
    for (heading, role) in [("# Standalone:", "standalone"), ("# Entry:", "entry"), ("# Worker:", "worker")] {
        let block = text.split("\n\n").find(|block| block.starts_with(heading)).unwrap();
        let pairs = block.lines().filter_map(|line| line.strip_prefix('#')?.split_once('='));
        let variables = pairs.filter(|(name, _)| !name.starts_with(' ')).map(|(n, v)| (n.to_string(), v.to_string()));
        let sources = Sources { variables: variables.collect(), ..root_with(etc().join("nbsupervisor.toml")) };
        let loaded = load(&sources).unwrap();
        assert_eq!(loaded.config.role.as_str(), role);
        assert!(loaded.warnings.is_empty(), "{heading} {:?}", loaded.warnings);
    }
}

#[test]
fn every_shipped_recipe_loads() {
    let mut names = Vec::new();
    let own = fs::read_dir(etc().join("runtimes.d")).unwrap().map(|entry| entry.unwrap().path());
    for path in own.chain([root().join("examples/nocobase/nocobase.toml")]) {
        let dir = tempfile::tempdir().unwrap();
        let copy = dir.path().join("recipe.toml");
        // A copy of its text has the mode and the owner that the installed file has.
        fs::write(&copy, fs::read_to_string(&path).unwrap()).unwrap();
        let (recipe, problems) = load_recipe_file(&copy);
        let errors: Vec<String> = problems.iter().filter(|p| p.is_error()).map(ToString::to_string).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        let name = recipe.unwrap().name.to_string();
        let file = path.file_name().unwrap().to_string_lossy().to_string();
        assert!(file.starts_with(&format!("{name}.toml")), "{file} has the name {name}");
        names.push(name);
    }
    names.sort();
    assert_eq!(names, ["job", "nocobase", "node", "static"]);
}
