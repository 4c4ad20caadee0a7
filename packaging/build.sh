#!/usr/bin/env bash
# packaging/build.sh deb|rpm [OUTDIR]: builds a package, by default into target/packages. Prints its path.
#
# The program is built with `cargo build --release --locked`, or taken from NBS_BIN, which names one that is there.
# The build happens in a copy, so nothing is left in the tree. From the same program and tree comes the same package,
# byte for byte. As root, missing Debian packages are installed. Deliberately absent: signing and uploading.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=tests/support/packages.sh
. "$root/tests/support/packages.sh"

format=${1:-} out=${2:-$root/target/packages}
case $format in
  deb) need dpkg-buildpackage:dpkg-dev dh:debhelper strip:binutils make:make ;;
  rpm) need rpmbuild:rpm strip:binutils ;;
  *) give_up "cannot build a package of format \"$format\": say packaging/build.sh deb [OUTDIR] or packaging/build.sh rpm [OUTDIR]" ;;
esac

if [ -n "${NBS_BIN:-}" ]; then
  if [ -d "$NBS_BIN" ] || ! [ -x "$NBS_BIN" ]; then
    give_up "cannot package NBS_BIN=$NBS_BIN: it is no program; name one, or unset it to have one built"
  fi
  binary=$(realpath "$NBS_BIN")
else
  command -v cargo >/dev/null || give_up "cargo is missing: install Rust through rustup; rust-toolchain.toml does the rest"
  (cd "$root" && cargo build --release --locked >&2)
  binary=${CARGO_TARGET_DIR:-$root/target}/release/nbsupervisor
fi

# One version in three places: the program's, the packages', the changelog's.
changelog=$(dpkg-parsechangelog -l "$root/debian/changelog" -S Version)
version=$("$binary" --version)
[ "${version#nbsupervisor }" = "${changelog%-*}" ] \
  || give_up "cannot package $binary: it says \"$version\", debian/changelog says $changelog; make them agree"

mkdir -p "$out"
out=$(cd "$out" && pwd)
work=$(mktemp -d /tmp/nbs-package.XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir "$work/tree"
(cd "$root" && cp -R --preserve=mode debian packaging units etc docs examples README.md CHANGELOG.md LICENSE "$work/tree/")
cd "$work/tree"
SOURCE_DATE_EPOCH=$(dpkg-parsechangelog -S Timestamp)
export SOURCE_DATE_EPOCH NBS_BIN=$binary

case $format in
  deb)
    dpkg-buildpackage --build=binary --no-sign >&2 || give_up "dpkg-buildpackage failed: see its messages above"
    built=("$work"/nbsupervisor_*.deb)
    ;;
  rpm)
    # `SOURCE_DATE_EPOCH` counts only if rpm is told so, and the name of this machine is nobody's business.
    rpmbuild -bb --build-in-place --quiet \
      --define "_topdir $work/rpm" --define "_rpmdir $work" --define "_rpmfilename %%{name}-%%{version}-%%{release}.%%{arch}.rpm" \
      --define "nbs_version ${changelog%-*}" --define "nbs_release ${changelog##*-}" --define "nbs_bin $binary" \
      --define "use_source_date_epoch_as_buildtime 1" --define "clamp_mtime_to_source_date_epoch 1" \
      --define "_buildhost localhost" \
      packaging/nbsupervisor.spec >&2 || give_up "rpmbuild failed: see its messages above"
    built=("$work"/nbsupervisor-*.rpm)
    ;;
esac
cp "${built[0]}" "$out/"
echo "$out/${built[0]##*/}"
