# Redis reads its certificate when it starts and when it is told to: tell it, whenever there is another one.
set -eu
run=${REDIS_RUN:-/run/redis}
tls=${REDIS_TLS:-/etc/redis/tls}
seen=
while :; do
  now=$(cat "$tls/tls.crt" "$tls/tls.key" "$tls/ca.crt" | sha256sum)
  if [ "$now" != "$seen" ] && [ -S "$run/redis.sock" ]; then
    answer=$(REDISCLI_AUTH=$(cat "$run/certificates.password") redis-cli -s "$run/redis.sock" --user certificates \
      config set tls-cert-file "$tls/tls.crt" tls-key-file "$tls/tls.key" tls-ca-cert-file "$tls/ca.crt" 2>&1) || :
    if [ "$answer" = OK ]; then
      seen=$now
      echo "certificate taken"
    else
      echo "certificate refused: $answer" >&2
    fi
  fi
  date +%s > "$run/looked"
  sleep "${RENEW_EVERY_S:-20}"
done
