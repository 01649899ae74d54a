chapter "Three keys, one trust policy, and three servers: registry gateway, build service, node"
cd "$WORK"
# Fetched inputs, unpacked toolchains and compiled dependencies are kept between runs; what was built is not.
rm -rf "$KEEP"/builder/{images,git,kept/plans,work,*.sqlite*}
GATEWAY=127.0.0.1:$(free_port) BUILDER=127.0.0.1:$(free_port) FRONT=127.0.0.1:$(free_port)
mkdir keys
for role in builder releaser node; do
    run nebh key new "$role" --role "$role" --out keys
done
nebh -q key new stranger --role builder --out keys >stranger.id

cat >trust.yaml <<END
roles:
  builder: { keys: [keys/builder.pub] }
  releaser: { keys: [keys/releaser.pub] }
  node: { keys: [keys/node.pub] }
rules:
  - match: shop/*
    image: builder
    release: releaser
    provenance: { source: "file://$WORK/*", custom-steps: refuse }
END
cat >gateway.yaml <<END
listen: $GATEWAY
state: $WORK/gateway
trust: trust.yaml
repositories:
  - { match: shop/*, admit: signed, keep: { recent: 2 } }
END
cat >builder.yaml <<END
listen: $BUILDER
state: $KEEP/builder
projects:
  - name: shop/ledger
    source: file://$WORK/ledger.git
    webhook: { kind: github, secret-file: webhook.secret }
    refs: [main]
    releases: "v{version}"
    channel: stable
    to: $GATEWAY/shop/ledger
sign: { builder: keys/builder.key, releaser: keys/releaser.key }
END
head -c 24 /dev/urandom | base64 >webhook.secret
chmod 600 webhook.secret

# The payments live on btrfs, where a snapshot takes a millisecond.
truncate -s 1G data.img
mkfs.btrfs -q data.img 2>/dev/null
mkdir data load
mount -o loop data.img data
btrfs -q subvolume create data/ledger
chown 65532:65532 data/ledger
cat >node.yaml <<END
node: n1
state: $WORK/node
trust: trust.yaml
key: keys/node.key
apps:
  - name: shop/ledger
    follow: { repository: $GATEWAY/shop/ledger, channel: stable }
    datasets: { ledger: { driver: btrfs, path: $WORK/data/ledger } }
    ports: { "8080": $FRONT }
    switch: manual
END
sed 's/^/     trust.yaml  /' trust.yaml
start gateway nebh gateway serve --settings gateway.yaml
until_true 20 "the gateway's answer" curl -fs "http://$GATEWAY/v2/"
start builder nebh builder serve --settings builder.yaml
until_true 20 "the build service's answer" curl -fs "http://$BUILDER/healthz"
start node nebh node run --settings node.yaml
until_true 20 "the agent's answer" nebh node status --settings node.yaml
