chapter "Retention: the two newest versions and every pin stay; the rest goes, and says why"
run nebh gateway retention plan --settings gateway.yaml
PLAN=$(nebh -q gateway retention plan --settings gateway.yaml)
run nebh gateway retention apply "$PLAN" --yes --settings gateway.yaml
run nebh explain retention "$GATEWAY/shop/ledger:1.0.0" --settings gateway.yaml
