chapter "Retention: the two newest versions and every pin stay; the rest goes, and says why"
for number in 1 2 3 4; do
    sed -i "s/The shop is open.*</The shop is open ($number)</" web/site/index.html
    commit_site "the sign says $number"
    tell "web:$number is $(nebh -q build "file://$WORK/web" --to "$GATEWAY/shop/web:$number" --sign-with keys/builder.key)"
done
run nebh pin "$GATEWAY/shop/web:1" --reason "what the auditors looked at"
run nebh gateway retention plan --settings gateway.yaml
PLAN=$(nebh -q gateway retention plan --settings gateway.yaml)
run nebh gateway retention apply "$PLAN" --yes --settings gateway.yaml
for number in 1 2; do
    run nebh explain retention "$GATEWAY/shop/web:$number" --settings gateway.yaml
done
