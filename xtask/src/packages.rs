//! The packages of the workspace that are published.

use serde::Deserialize;

use crate::run::cargo;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    /// The registries it may go to; `None` means any.
    publish: Option<Vec<String>>,
    rust_version: Option<String>,
}

/// What is published, and the oldest toolchain that it is promised to build with.
pub(crate) struct Published {
    names: Vec<String>,
    pub(crate) rust_version: String,
}

impl Published {
    /// Reads it from the manifests.
    pub(crate) fn read() -> Result<Self, String> {
        let mut command = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
        let output = command.output().map_err(|error| format!("cargo metadata: {error}"))?;
        if !output.status.success() {
            return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr)));
        }
        Self::of(&output.stdout)
    }

    fn of(metadata: &[u8]) -> Result<Self, String> {
        let metadata: Metadata =
            serde_json::from_slice(metadata).map_err(|error| format!("cargo metadata: {error}"))?;
        let packages = metadata.packages.into_iter();
        let public: Vec<Package> =
            packages.filter(|package| package.publish.as_ref().is_none_or(|to| !to.is_empty())).collect();
        let versions = public.iter().map(|package| package.rust_version.as_deref());
        let rust_version = versions
            .reduce(|one, other| if one == other { one } else { None })
            .flatten()
            .ok_or("the published packages have no rust-version, or not one for all")?
            .to_owned();
        Ok(Self { names: public.into_iter().map(|package| package.name).collect(), rust_version })
    }

    /// `--package` for each.
    pub(crate) fn selection(&self) -> impl Iterator<Item = &str> {
        self.names.iter().flat_map(|name| ["--package", name])
    }
}

#[cfg(test)]
mod tests {
    use super::Published;

    #[test]
    fn what_may_go_to_a_registry_is_published() {
        let of = |packages: &str| Published::of(format!(r#"{{"packages": [{packages}]}}"#).as_bytes());
        let (public, private, older) = (
            r#"{"name": "a", "publish": null, "rust_version": "1.89"}"#,
            r#"{"name": "b", "publish": [], "rust_version": "1.95"}"#,
            r#"{"name": "c", "publish": ["ours"], "rust_version": "1.88"}"#,
        );
        let published = of(&format!("{public}, {private}")).unwrap();
        assert_eq!(published.selection().collect::<Vec<_>>(), ["--package", "a"]);
        assert_eq!(published.rust_version, "1.89");
        assert!(of(&format!("{public}, {older}")).is_err(), "two promises");
        assert!(of(private).is_err(), "none");
    }

    #[test]
    fn the_crates_of_users_are_published_and_those_for_tests_are_not() {
        let published = Published::read().unwrap();
        let names = published.names;
        for name in
            ["broker-rs", "broker-axum", "broker-core", "broker-macros", "broker-conformance", "broker-cli"]
        {
            assert!(names.iter().any(|published| published == name), "{name}");
        }
        for name in ["integration-tests", "xtask", "bench", "pixorama"] {
            assert!(names.iter().all(|published| published != name), "{name}");
        }
    }
}
