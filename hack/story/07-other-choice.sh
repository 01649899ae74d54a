chapter "The other choice: the data from before the bad release. What is left behind is kept, and brought back"
run nebh node rollback --data pre --settings node.yaml
tell "listed now: $(listed | wc -l) payments, of $(sort -u load/acknowledged | wc -l) acknowledged"
run nebh data list --settings node.yaml
LEFT=$(nebh data list --settings node.yaml --output json | tr ',{' '\n\n' | grep -i 'orphan' -B 8 | grep -o 'tl[0-9]*' | tail -n 1)
run nebh data adopt "$LEFT" --settings node.yaml
every_payment_is_listed || die "an acknowledged payment did not come back"
run nebh node history --settings node.yaml
