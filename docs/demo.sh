#!/bin/sh
# A recording is sealed by OpenSSL and opened by kekctl with a DEK unwrapped inside the HSM.
# Called by `make demo`, which has built the programs. Everything it makes is in a temporary folder.
set -eu

bin=${1:?usage: demo.sh FOLDER-OF-THE-PROGRAMS}
kekctl=$bin/kekctl
work=$(mktemp -d)
rig=$work/rig
cleanup() {
    "$kekctl" rig down "$rig" >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { printf '$ %s\n' "$*" | sed "s|$bin/||g; s|$work/||g"; "$@"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }

say '1. A SoftHSM2 token, a CA, six officers, a genesis that two of them signed, the real daemon.'
run "$kekctl" rig up "$rig"
. "$rig/env"
run "$kekctl" status

say "2. The KEK '$KEKD_KEK', as the HSM's own tools see it."
# shellcheck disable=SC2016 # the PIN is not for the screen
pkcs11-tool --module "$(sed -n 's/^module = "\(.*\)"/\1/p' "$rig/kekd.toml")" --token-label kekd-rig \
    --login --pin "$(cat "$rig/pin")" --list-objects --type privkey 2>/dev/null |
    sed -n "/kekd kek $KEKD_KEK/,/Access/p"

say '3. A telephone recording: 8 kHz, two channels, 16-bit PCM, three seconds.'
perl -e '
    my $rate = 8000; my $pcm = "";
    for my $t (0 .. 3 * $rate - 1) {
        my $ring = int($t / $rate) % 2 ? 0 : 8000;
        $pcm .= pack("s<2", $ring * (sin(6.2832 * 440 * $t / $rate) + sin(6.2832 * 480 * $t / $rate)) / 2,
                            3000 * sin(6.2832 * 200 * $t / $rate));
    }
    print "RIFF", pack("V", 36 + length $pcm), "WAVEfmt ",
          pack("VvvVVvv", 16, 1, 2, $rate, $rate * 4, 4, 16), "data", pack("V", length $pcm), $pcm;
' >"$work/call.wav"
run ls -l "$work/call.wav"

say "4. OpenSSL seals it under the KEK's certificate: AES-256-GCM, the DEK in RSA-OAEP."
run "$kekctl" kek export "$KEKD_KEYPAIR_ID" --format cert --out "$work/kek.pem"
run openssl cms -encrypt -binary -aes-256-gcm -in "$work/call.wav" -out "$work/call.p7m" -outform DER \
    -recip "$work/kek.pem" -keyopt rsa_padding_mode:oaep

say '5. kekctl opens it: kekd unwraps the DEK with the private key inside the token.'
run "$kekctl" recording open --in "$work/call.p7m" --out "$work/opened.wav"
run cmp "$work/call.wav" "$work/opened.wav"
run "$kekctl" status

say 'The recording came back whole. Its DEK was unwrapped inside the HSM, and the release is on record.'
