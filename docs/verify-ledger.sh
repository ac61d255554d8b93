#!/bin/sh
# Verifies an export of a ledger (`kekctl ledger export DIR`) without any code of kekd's: with
# ssh-keygen, openssl, sha256sum, awk and the ordinary tools alone. docs/formats.md, "Export", says
# what the files are.
#
#   sh verify-ledger.sh DIR [INSTANCE]
#
# INSTANCE is the instance you mean, 64 hexadecimal digits. Without it the export shows only that it
# agrees with itself: compare the instance that is printed with the one you know.
#
# Verified are: that the entries are those that the log key signed (RFC 6962 tree, C2SP checkpoint);
# that every statement and signature is inside the entry it belongs to; and every signature, against
# the officers of its epoch as genesis and executed statements name them. Not verified is whether
# enough officers signed, in time: that is the rules' part, see `kekctl ledger verify`.
#
# Exit status: 0 verified; 1 refused, the first thing at fault is named; 2 wrong usage or no tools.
set -u
LC_ALL=C
export LC_ALL

usage() {
    echo 'usage: verify-ledger.sh DIR [INSTANCE]' >&2
    exit 2
}
{ [ $# -ge 1 ] && [ $# -le 2 ] && [ -d "$1" ]; } || usage
for tool in ssh-keygen openssl sha256sum awk od dd cmp base64; do
    command -v "$tool" >/dev/null || {
        echo "there is no $tool here" >&2
        exit 2
    }
done
wanted=${2-}
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 2' HUP INT TERM
cd "$1" || exit 2

refuse() {
    echo "REFUSED $*" >&2
    exit 1
}
sha() { sha256sum | cut -d ' ' -f 1; }
# The bytes of standard input in hexadecimal.
hex() { od -An -v -tx1 | tr -d ' \n'; }
# The one line that a file holds; nothing where it holds anything else.
only_line() {
    [ -f "$1" ] || return
    only=$(tr -d '\000' <"$1")
    if printf '%s\n' "$only" | cmp -s - "$1"; then printf '%s\n' "$only"; fi
}
# The value of the first line of a statement with this name.
field() { awk -v name="$2" 'index($0, name " ") == 1 { print substr($0, length(name) + 2); exit }' "$1"; }
# A name as a principal of ssh-keygen's.
principals='{ gsub(/[^A-Za-z0-9._@-]/, "_", name) }'

# 1. The entries are those that the log key signed.
[ -f entries/00000000.bin ] || refuse 'entry 0: it is missing'
instance=$(sha <entries/00000000.bin)
origin=kekd/ledger/$instance

size=0
: >"$work/leaves"
for entry in entries/*; do
    [ "$entry" = "entries/$(printf %08d "$size").bin" ] ||
        refuse "entry $size: it is missing, or $entry does not belong here"
    { printf '\000' && cat "$entry"; } | openssl dgst -sha256 -binary >"$work/leaf.$size"
    hex <"$work/leaf.$size" >>"$work/leaves"
    echo >>"$work/leaves"
    [ "$(sed -n "$((size + 1))p" leaves | tr -d '\000')" = "$(tail -n 1 "$work/leaves")" ] ||
        refuse "entry $size: it is not what leaves says"
    size=$((size + 1))
done
[ -z "$wanted" ] || [ "$wanted" = "$instance" ] || refuse "instance: this is $instance"
[ "$(only_line instance)" = "$instance" ] || refuse 'instance: it is not the digest of entry 0'
cmp -s "$work/leaves" leaves || refuse 'leaves: there are other lines than entries'

# The root: perfect subtrees are joined as they become whole, then from the smallest up.
node() { { printf '\001' && cat "$1" "$2"; } | openssl dgst -sha256 -binary >"$3"; }
depth=0
index=0
while [ "$index" -lt "$size" ]; do
    cp "$work/leaf.$index" "$work/peak.$depth"
    ones=$index
    while [ $((ones % 2)) -eq 1 ]; do
        node "$work/peak.$((depth - 1))" "$work/peak.$depth" "$work/joined"
        depth=$((depth - 1))
        mv "$work/joined" "$work/peak.$depth"
        ones=$((ones / 2))
    done
    depth=$((depth + 1))
    index=$((index + 1))
done
while [ "$depth" -gt 1 ]; do
    node "$work/peak.$((depth - 2))" "$work/peak.$((depth - 1))" "$work/joined"
    depth=$((depth - 1))
    mv "$work/joined" "$work/peak.$((depth - 1))"
done
printf '%s\n%s\n%s\n' "$origin" "$size" "$(base64 <"$work/peak.0")" >"$work/text"
head -n 3 checkpoint | cmp -s - "$work/text" ||
    refuse 'checkpoint: it is not over these entries of this instance'

# The log key is the first P-256 key in entry 0: genesis and signatures before it are text.
prefix=3059301306072a8648ce3d020106082a8648ce3d030107034200
spki=$(hex <entries/00000000.bin | awk -v prefix="$prefix" '{
    at = index($0, prefix); if (at % 2 == 1) print substr($0, at, 182) }')
openssl pkey -pubin -in log-key.pem -outform DER -out "$work/log-key.der" 2>/dev/null ||
    refuse 'log-key.pem: it is not a public key'
openssl pkey -pubin -in log-key.pem 2>/dev/null | cmp -s - log-key.pem ||
    refuse 'log-key.pem: it is not a public key in PEM, and only that'
[ "$(hex <"$work/log-key.der")" = "$spki" ] || refuse 'log-key.pem: it is not the log key of entry 0'

dash=$(printf '\342\200\224')
signed=$(sed -n "5s|^$dash $origin ||p" checkpoint | tr -d '\000')
printf '%s\n\n%s %s %s\n' "$(cat "$work/text")" "$dash" "$origin" "$signed" >"$work/note"
cmp -s "$work/note" checkpoint || refuse 'checkpoint: it is not a note with the signature of its log'
printf %s "$signed" | base64 -d >"$work/blob" 2>/dev/null || refuse 'checkpoint: no signature in base64'
[ "$(base64 <"$work/blob" | tr -d '\n')" = "$signed" ] || refuse 'checkpoint: no signature in base64'
[ "$(head -c 4 "$work/blob" | hex)" = "$(sha <"$work/log-key.der" | cut -c 1-8)" ] ||
    refuse 'checkpoint: it is signed by another key'
tail -c +5 "$work/blob" >"$work/signature"
openssl dgst -sha256 -verify log-key.pem -signature "$work/signature" "$work/text" >/dev/null 2>&1 ||
    refuse 'checkpoint: the signature of the log key does not verify'

# 2. The officers of the first epoch are those of the genesis. Its TOML is not read as such: each key
# must stand in it, and each name in quotes.
genesis=signed/00000000/statement
allowed_by_genesis() {
    tr '"' '\n' <"$genesis" | tr "'" '\n' |
        awk "{ name = \$0 } $principals { print name }" >"$work/names"
    while read -r name kind key more; do
        { [ -n "$key" ] && [ -z "$more" ] && grep -qxF -e "$name" "$work/names" &&
            grep -qF -e "$kind $key" "$genesis"; } ||
            refuse "$1: $name with this key is not in the genesis"
        printf '%s %s %s\n' "$name" "$kind" "$key"
    done <"$1" >"$work/allowed"
    cmp -s "$work/allowed" "$1" || refuse "$1: its lines are not name, kind and key"
}
# The officers a statement names, as `officer ROLE KIND BASE64 NAME`.
allowed_by_statement() {
    awk "/^officer / { kind = \$3; key = \$4; name = substr(\$0, length(\$1 \$2 \$3 \$4) + 5) }
        /^officer / $principals
        /^officer / { print name, kind, key }" "$1"
}

# 3. What officers signed. `epoch` goes up with each execution that changes the quorum.
epoch=1
signatures=0
mkdir "$work/proposals"

# Statement and signatures are cut out of the entry once more, and are what the files hold.
cut_out() {
    count=0
    : >"$work/offsets"
    while read -r name start len; do
        printf '%s %s %s\n' "$name" "$start" "$len" >>"$work/offsets"
        case $name in
        statement) ;;
        "signature.$((count + 1))") count=$((count + 1)) ;;
        *) refuse "entry $1: its offsets name something else" ;;
        esac
        case $start$len in *[!0-9]* | '') refuse "entry $1: its offsets are not numbers" ;; esac
        dd if="$entry" bs=1 skip="$start" count="$len" 2>/dev/null | cmp -s - "$signed/$name" ||
            refuse "entry $1: its $name is not in the entry"
    done <"$signed/offsets"
    cmp -s "$work/offsets" "$signed/offsets" || refuse "entry $1: its offsets are malformed"
    expected=$(grep -a -o -e '-----BEGIN SSH SIGNATURE-----' "$entry" | wc -l)
    { [ "$count" -ge 1 ] && [ "$count" -eq "$expected" ]; } ||
        refuse "entry $1: it holds $expected signatures, and $count are laid open"
}

# Who may have signed entry $1, whose statement is $2.
allowed_for() {
    allowed=allowed_signers.$epoch
    [ -e "$signed/allowed_signers" ] || return 0
    allowed=$signed/allowed_signers
    if [ "$namespace" = possession@kekd ]; then
        allowed_by_statement "$2" | cmp -s - "$allowed" ||
            refuse "entry $1: its allowed_signers are not those that the statement names"
    elif [ "$(field "$2" operation)" = recover ] && [ -e allowed_signers.recovery ]; then
        { cat allowed_signers.recovery && case $namespace in
            proposal@kekd | veto@kekd) cat "allowed_signers.$epoch" ;;
            esac } | sort >"$work/may"
        sort "$allowed" | cmp -s - "$work/may" ||
            refuse "entry $1: its allowed_signers are not those who may sign for a recovery"
    else
        refuse "entry $1: it has signers of its own without a reason"
    fi
}

# What an execution does to the quorum.
next_epoch() {
    case $(field "$2" operation) in
    change-officers | recover)
        opened=$(field "$2" proposal)
        [ -f "$work/proposals/$opened" ] || refuse "entry $1: it executes an unknown proposal"
        allowed_by_statement "$(cat "$work/proposals/$opened")" >"$work/officers"
        ;;
    change-policy) cp "allowed_signers.$epoch" "$work/officers" ;;
    *) return 0 ;;
    esac
    epoch=$((epoch + 1))
    cmp -s "$work/officers" "allowed_signers.$epoch" ||
        refuse "allowed_signers.$epoch: it is not what entry $1 made it"
}

# The namespace of entry $1, from the field number of its event (ledger.proto): the field behind the
# instance's id. Nothing where nobody signs an event of this kind.
namespace_of() {
    [ "$1" -ne 0 ] || {
        kind=52
        namespace=genesis@kekd
        return
    }
    kind=$(hex <"$entry" | awk -v id="1a20$instance" '{
        at = index($0, id); if (at % 2 == 1) print substr($0, at + length(id), 4) }')
    case $kind in
    62*) namespace=proposal@kekd ;;
    6a*) namespace=approval@kekd ;;
    72*) namespace=possession@kekd ;;
    7a*) namespace=veto@kekd ;;
    8201 | 8a01) namespace=execution@kekd ;;
    aa01) namespace=suspension@kekd ;;
    52*) refuse "entry $1: a second genesis" ;;
    '') refuse "entry $1: it is of another instance" ;;
    *) namespace= ;;
    esac
}

verify_signed() {
    [ -f "$signed/offsets" ] || refuse "entry $1: what was signed is missing"
    cut_out "$1"
    [ "$(only_line "$signed/namespace")" = "$namespace" ] ||
        refuse "entry $1: its namespace is $namespace"
    [ "$(only_line "$signed/epoch")" = "$epoch" ] || refuse "entry $1: it is of epoch $epoch"
    statement=$signed/statement
    case $namespace in
    approval@kekd | veto@kekd | possession@kekd)
        opened=$(only_line "$signed/statement-of")
        case $opened in *[!0-9]* | '') refuse "entry $1: it names no proposal" ;; esac
        [ ! -e "$statement" ] || refuse "entry $1: it has no statement of its own"
        statement=signed/$(printf %08d "$opened")/statement
        [ -f "$statement" ] || refuse "entry $1: entry $opened opened no proposal"
        hex <"$entry" | grep -q "$(sha <"$statement")" ||
            refuse "entry $1: it is about another proposal than entry $opened"
        ;;
    *)
        { [ -f "$statement" ] && [ ! -e "$signed/statement-of" ]; } ||
            refuse "entry $1: its statement is missing"
        ;;
    esac
    [ "$namespace" != proposal@kekd ] || echo "$statement" >"$work/proposals/$(sha <"$statement")"
    allowed_for "$1" "$statement"
    for signature in "$signed"/signature.*; do
        signer=$(ssh-keygen -Y find-principals -s "$signature" -f "$allowed" 2>/dev/null | head -n 1)
        [ -n "$signer" ] || refuse "entry $1: ${signature##*/} is by nobody who may sign it"
        ssh-keygen -Y verify -n "$namespace" -f "$allowed" -I "$signer" -s "$signature" \
            <"$statement" >/dev/null 2>&1 || refuse "entry $1: ${signature##*/} by $signer does not verify"
        signatures=$((signatures + 1))
    done
    for file in "$signed"/*; do
        case ${file##*/} in
        namespace | epoch | offsets | statement | statement-of | allowed_signers) ;;
        signature.*) grep -q "^${file##*/} " "$signed/offsets" || refuse "$file: it does not belong here" ;;
        *) refuse "$file: it does not belong here" ;;
        esac
    done
    # An execution that takes effect at once: field 16.
    [ "$kind" != 8201 ] || next_epoch "$1" "$statement"
}

[ -f "$genesis" ] || refuse 'entry 0: its statement, the genesis, is missing'
allowed_by_genesis allowed_signers.1
[ ! -e allowed_signers.recovery ] || allowed_by_genesis allowed_signers.recovery
index=0
while [ "$index" -lt "$size" ]; do
    name=$(printf %08d "$index")
    entry=entries/$name.bin
    signed=signed/$name
    namespace_of "$index"
    if [ -n "$namespace" ]; then
        verify_signed "$index"
    elif [ -e "$signed" ]; then
        refuse "entry $index: nobody signs an event of its kind"
    fi
    index=$((index + 1))
done
for file in * signed/*; do
    case $file in
    checkpoint | log-key.pem | instance | leaves | entries | signed | allowed_signers.recovery) ;;
    allowed_signers.*) [ "${file#*.}" -ge 1 ] 2>/dev/null && [ "${file#*.}" -le "$epoch" ] ||
        refuse "$file: it does not belong here" ;;
    signed/*) [ -f "entries/${file#signed/}.bin" ] || refuse "$file: it does not belong here" ;;
    *) refuse "$file: it does not belong here" ;;
    esac
done

echo "OK $size entries, $signatures signatures"
echo "instance $instance"
