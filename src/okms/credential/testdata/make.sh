#!/bin/sh
# Makes the files of this folder anew. README.md says what they are.
set -eu
cd "$(dirname "$0")"
rm -f ./*.p12 ./*.crt ./*.key
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
id=e90c5841-f39e-4983-8596-62ff0c538b6b

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/ca.key" -out ca.crt -days 36500 \
    -subj "/CN=CCMUsersCA" -addext "basicConstraints=critical,CA:TRUE" 2>/dev/null
request() { # name
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "/CN=$id" 2>/dev/null
    printf 'subjectAltName=critical,otherName:1.3.6.1.4.1.311.20.2.3;UTF8:okms.domain:%s\nextendedKeyUsage=clientAuth\n' "$id" \
        >"$work/extensions"
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey "$work/ca.key" -days 36500 -extfile "$work/extensions" -out "$1.crt" 2>/dev/null
}
request "$work/one"
request "$work/two"
cp "$work/one.crt" tls.crt
cp "$work/one.key" tls.key

export_() { # file, further arguments
    file=$1
    shift
    openssl pkcs12 -export -in tls.crt -inkey tls.key -passout "pass:${password-correct horse}" -out "$file" "$@"
}
export_ openssl.p12
export_ legacy.p12 -legacy
export_ rc2-128.p12 -legacy -certpbe PBE-SHA1-RC2-128 -keypbe PBE-SHA1-3DES -macalg sha512
export_ mixed.p12 -certpbe DES-EDE3-CBC -keypbe AES-128-CBC -macalg sha384
export_ plain-certificates.p12 -certpbe NONE -keypbe AES-192-CBC
export_ plain.p12 -certpbe NONE -keypbe NONE
export_ no-mac.p12 -nomac
export_ chain.p12 -certfile ca.crt
export_ costly.p12 -iter 4000000
export_ no-key.p12 -nokeys
openssl pkcs12 -export -inkey tls.key -nocerts -passout "pass:correct horse" -out no-certificate.p12
password='' export_ empty-password.p12
password='pässwörd €' export_ unicode-password.p12

keytool -importkeystore -srckeystore openssl.p12 -srcstorepass "correct horse" -destkeystore keytool.p12 \
    -deststorepass "correct horse" -deststoretype PKCS12 2>/dev/null
keytool -J-Dkeystore.pkcs12.legacy -importkeystore -srckeystore openssl.p12 -srcstorepass "correct horse" \
    -destkeystore keytool-legacy.p12 -deststorepass "correct horse" -deststoretype PKCS12 2>/dev/null
cp keytool.p12 several-keys.p12
openssl pkcs12 -export -in "$work/two.crt" -inkey "$work/two.key" -name two -passout "pass:correct horse" -out "$work/two.p12"
keytool -importkeystore -srckeystore "$work/two.p12" -srcstorepass "correct horse" -destkeystore several-keys.p12 \
    -deststorepass "correct horse" 2>/dev/null
