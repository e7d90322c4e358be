# Writes down who may do what, and becomes Redis. The Secret has the password's SHA-256 alone, or that of the old and of
# the new one: Redis is not told more.
set -eu
umask 077
run=${REDIS_RUN:-/run/redis}
head -c 32 /dev/urandom | sha256sum | cut -c 1-64 > "$run/certificates.password"
cat > "$run/users.conf" <<END
user default off
user mesh on$(printf ' #%s' $REDIS_PASSWORD_SHA256) resetkeys ~voicemesh:* resetchannels &voicemesh:* -@all +ping +eval +scan +unlink +del +type +exists +set +getrange +strlen +append +pttl +pexpire +hset +hmget +rpush +lrange +llen +xadd +xread +publish +subscribe
user probe on nopass resetkeys resetchannels -@all +ping
user certificates on >$(cat "$run/certificates.password") resetkeys resetchannels -@all +config|set
END
exec redis-server "${REDIS_CONFIG:-/etc/redis/redis.conf}"
