#!/bin/sh
# The whole life of a KEK, as its officers live it: by kekctl and ssh-keygen alone.
#
#   kekctl rig up ./rig && sh docs/life.sh ./rig
#
# The rig's threshold is two officers beside the one who puts an operation forward. Each operation is
# first tried with one approval, and refused, and then done with two. Bob trusts no software of ours
# with his key: whatever he signs he signs with `ssh-keygen -Y sign`. The folder LIFE, if set, keeps
# what is made on the way: wrapped DEKs, and the export of the ledger with which it ends.
set -eu

rig=$(cd "${1:?usage: life.sh FOLDER-OF-A-RIG}" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
work=${LIFE:-$(mktemp -d)}
if [ -z "${LIFE:-}" ]; then trap 'rm -rf "$work"' EXIT; fi
mkdir -p "$work"

die() {
    echo "life.sh: $*" >&2
    exit 1
}
say() { printf '\n%s\n' "$*"; }

# --- Who calls -----------------------------------------------------------------------------------

. "$rig/env"
# An unwrap client, the one of the certificate that `env` names.
client() { kekctl "$@"; }
# An officer, who signs with the key of that name.
as() {
    officer=$1
    shift
    KEKD_CERT=$rig/pki/officer.crt KEKD_KEY=$rig/pki/officer.key \
        KEKD_OFFICER=$officer KEKD_OFFICER_KEY=$rig/officers/$officer kekctl "$@"
}
# What kekctl shows an officer before a signature is for the officer; here it is kept aside, and said
# where something goes wrong.
quietly() {
    "$@" 2>"$work/shown" || {
        cat "$work/shown" >&2
        exit 1
    }
}
# One value out of an answer in JSON.
value() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }

# --- What must fail ------------------------------------------------------------------------------

# refused WORDS COMMAND…: the command fails, and says these words.
refused() {
    words=$1
    shift
    if said=$("$@" 2>&1); then die "this should have been refused: $*"; fi
    case $said in
        *"$words"*) echo "  refused: $words" ;;
        *) die "expected a refusal that says '$words'; found: $said" ;;
    esac
}

# --- What officers do ----------------------------------------------------------------------------

# propose OFFICER OPERATION…: puts it forward; the id of the proposal is in $id.
propose() {
    proposer=$1
    shift
    id=$(quietly as "$proposer" propose "$@" --yes --output json | value proposal_id)
    [ -n "$id" ] || die "no proposal: $*: $(cat "$work/shown")"
    echo "  $proposer proposes: $*"
}
# sign OFFICER PURPOSE FILE: as an officer without kekctl does.
sign() { ssh-keygen -q -Y sign -n "$2@kekd" -f "$rig/officers/$1" "$3"; }
# approve OFFICER: the proposal in $id. Where it stands then is in $stands.
approve() {
    echo "  $1 approves"
    if [ "$1" = bob ]; then
        rm -f "$work/statement" "$work/statement.sig"
        quietly as bob proposal statement "$id" --out "$work/statement" >/dev/null
        sign bob approval "$work/statement"
        said=$(quietly as bob approve "$id" --signature "$work/statement.sig" --output json)
    else
        said=$(quietly as "$1" approve "$id" --yes --output json)
    fi
    stands=$(printf '%s\n' "$said" | value phase)
}
wait_for_the_lock() {
    while [ "$stands" = time-locked ]; do
        sleep 0.2
        stands=$(phase)
    done
}
phase() { as alice proposal show "$id" --output json | value phase; }
# execute OFFICER: the proposal in $id, as soon as its time-lock has ended. Bob signs by himself.
execute() {
    wait_for_the_lock
    echo "  $1 executes"
    if [ "$1" = bob ]; then
        rm -f "$work/execution" "$work/execution.sig"
        quietly as bob execute "$id" --statement-out "$work/execution" >/dev/null
        sign bob execution "$work/execution"
        done=$(quietly as bob execute "$id" --statement "$work/execution" \
            --signature "$work/execution.sig" --output json)
    else
        done=$(quietly as "$1" execute "$id" --yes --output json)
    fi
    keypair_id=$(printf '%s\n' "$done" | value keypair_id)
    stands=$(printf '%s\n' "$done" | value phase)
    [ "$stands" = executed ] || die "$id is $stands"
}
# too_few OFFICER: it cannot be executed yet.
too_few() { refused 'the proposal is open; an execution needs one that is executable' \
    as "$1" execute "$id" --yes; }
# decide PROPOSER ONE OTHER OPERATION…: the whole way, with one approval too few at first.
decide() {
    puts_forward=$1 one=$2 other=$3
    shift 3
    propose "$puts_forward" "$@"
    approve "$one"
    too_few "$puts_forward"
    approve "$other"
    execute "$puts_forward"
}
# Custodians decide on keys, policy officers on who may use them; every officer on officers.
custodians() { decide alice bob carol "$@"; }
policy_officers() { decide dave erin frank "$@"; }

# --- What a client does --------------------------------------------------------------------------

# wrap KEYPAIR NAME [OPENSSL-PADDING]: a new DEK, wrapped outside the HSM by OpenSSL.
wrap() {
    rm -f "$work/$2.pem"
    client kek export "$1" --format pem --out "$work/$2.pem" >/dev/null
    openssl rand -out "$work/$2.dek" 32
    openssl pkeyutl -encrypt -pubin -inkey "$work/$2.pem" -pkeyopt "rsa_padding_mode:${3:-oaep}" \
        -in "$work/$2.dek" -out "$work/$2.wrapped"
    echo "$1" >"$work/$2.keypair"
}
unwrap() {
    dek=$1
    shift
    client unwrap "$(cat "$work/$dek.keypair")" --in "$work/$dek.wrapped" --out "$work/$dek.out" \
        --force "$@" >/dev/null
}
# The DEK comes back as it was.
opens() {
    unwrap "$@"
    cmp "$work/$1.dek" "$work/$1.out" || die "another DEK came back than $1"
    rm "$work/$1.out"
}

identity=spiffe://kekd.test/lkm-1
auditor=spiffe://kekd.test/auditor-2

say '1. A KEK is made, and a client may unwrap under it.'
custodians create-kek --kek archive --profile kek-rsa-3072
first=$keypair_id
policy_officers grant-unwrap --identity "$identity" --kek archive
wrap "$first" v1
opens v1

say '2. It is rotated ten times. Each version has a DEK of its own.'
version=1
while [ $version -le 10 ]; do
    version=$((version + 1))
    custodians rotate-kek --kek archive
    wrap "$keypair_id" v$version
done
for version in 1 2 3 4 5 6 7 8 9 10 11; do opens v$version; done
active=$keypair_id
second=$(cat "$work/v2.keypair")

say '3. It may rotate by itself, and then may not.'
custodians set-rotation-mandate --kek archive --period-days 365 --for-days 1830
as alice policy show | grep -q 'archive' || die 'no mandate is shown'
custodians withdraw-rotation-mandate --kek archive

say '4. One officer stops it; it takes a quorum to reinstate it.'
refused 'no officer has the key' as grace suspend archive --yes
quietly as bob suspend archive --statement-out "$work/stop" >/dev/null
sign bob suspension "$work/stop"
quietly as bob suspend --statement "$work/stop" --signature "$work/stop.sig"
refused VERSION_NOT_USABLE unwrap v1 --output json
custodians reinstate --kek archive
opens v1

say '5. One officer stops everything.'
quietly as erin suspend --all --yes >/dev/null
refused VERSION_NOT_USABLE unwrap v1 --output json
custodians reinstate --all
opens v1

say '6. A destruction is scheduled and cancelled. The version waits suspended, and comes back.'
refused 'released 1 DEKs' as alice propose destroy-version --keypair-id "$second" \
    --unused-days 0 --unwraps 0 --yes
propose alice destroy-version --keypair-id "$second" --unused-days 0
approve bob
too_few alice
opens v1
approve carol
destruction=$id
refused 'the proposal is time-locked; an execution needs one that is executable' \
    as alice execute "$id" --yes
refused VERSION_NOT_USABLE unwrap v2 --output json
custodians cancel-destruction --proposal "$destruction"
opens v2

say '7. A version is revoked. Nothing is active then, until the KEK is rotated: none is retired.'
custodians revoke-version --keypair-id "$active" --reason 'the token was out of sight'
refused VERSION_NOT_USABLE unwrap v11 --output json
custodians rotate-kek --kek archive
wrap "$keypair_id" v12

say '8. The right to unwrap is withdrawn and granted again; clients come and go.'
policy_officers withdraw-unwrap --identity "$identity" --kek archive
refused NOT_GRANTED unwrap v1 --output json
policy_officers grant-unwrap --identity "$identity" --kek archive
policy_officers assign-role --identity "$auditor" --role auditor
policy_officers remove-client --identity "$auditor"

say '9. The recordings of a queue are bound to the KEK, and no longer.'
policy_officers bind-recording-policy --queue support-de --kek archive --fallback vault
as alice policy show | grep -q 'support-de' || die 'no recording policy is shown'
policy_officers unbind-recording-policy --queue support-de

say '10. PKCS#1 v1.5 is forbidden and allowed under a KEK whose profile has it.'
legacy=$(client kek show legacy --output json | value keypair_id)
wrap "$legacy" legacy pkcs1
opens legacy --padding pkcs1-v1_5
custodians forbid-pkcs1v15 --kek legacy
refused PADDING_NOT_ALLOWED unwrap legacy --padding pkcs1-v1_5 --output json
custodians allow-pkcs1v15 --kek legacy
opens legacy --padding pkcs1-v1_5

say '11. The policy changes. What is open then is cancelled.'
propose carol rotate-kek --kek archive
left_open=$id
decide alice bob dave change-policy --open-max-per-officer 4
id=$left_open
[ "$(phase)" = cancelled ] || die "the proposal of the old epoch is $(phase)"

say '12. Carol leaves and Judy comes, once she has shown that she holds her key.'
ssh-keygen -q -t ed25519 -N '' -C judy -f "$rig/officers/judy"
propose alice change-officers --remove carol --add "key-custodian:judy=$rig/officers/judy.pub"
approve bob
too_few alice
approve erin
wait_for_the_lock
refused 'have not proved that they hold their keys: judy' as alice execute "$id" --yes
quietly as judy prove-possession "$id" --yes >/dev/null
execute bob
refused 'no officer has the key' as carol propose rotate-kek --kek archive --yes
decide alice bob judy rotate-kek --kek archive
wrap "$keypair_id" v13

say '13. The officers have lost their keys: the recovery set names others.'
ssh-keygen -q -t ed25519 -N '' -C mallory -f "$rig/officers/mallory"
propose grace recover --keep judy --keep bob --keep dave --keep erin --keep frank \
    --add "key-custodian:mallory=$rig/officers/mallory.pub"
approve grace
too_few grace
approve heidi
quietly as mallory prove-possession "$id" --yes >/dev/null
execute grace
refused 'no officer has the key' as alice propose rotate-kek --kek archive --yes
decide judy bob mallory rotate-kek --kek archive
wrap "$keypair_id" v14

say '14. Every DEK comes back, under whichever version it was wrapped, but for the revoked one.'
for version in 1 2 3 4 5 6 7 8 9 10 12 13 14; do opens v$version; done
refused VERSION_NOT_USABLE unwrap v11 --output json

say '15. The ledger proves every step, without any code of kekd.'
as bob ledger export "$work/ledger"
sh "$here/verify-ledger.sh" "$work/ledger"
as bob ledger verify "$work/ledger" >/dev/null
