"""A client of all nine endpoints, written only from the platform's reference: `client.py BASE_URL KEY`."""

import sys

import requests

base, key = sys.argv[1:]
session = requests.Session()
session.headers["Authorization"] = key
FILE = "value,entity_type_id\nA-1,37\nA-2,47\ngrün & 100%,54\n"


def call(method, path, **arguments):
    response = session.request(method, base + path, **arguments)
    assert response.status_code == 200, (method, path, response.status_code, response.text)
    return response


def refused(status, method, path, **arguments):
    response = session.request(method, base + path, **arguments)
    assert response.status_code == status, (method, path, response.status_code, response.text)
    return response.json()


made = call("POST", "/data-pool", json={"name": "Orders & more", "description": "vus à Genève"}).json()["data"]
form = call("POST", "/data-pool/", data={"name": "Customers"}).json()["data"]
assert form["description"] is None
pool = f"/data-pool/{made['id']}"

pools = call("GET", "/data-pool/", params={"per_page": 50, "filter[name]": "orders &"}).json()
assert pools["data"] == [made] and pools["meta"]["per_page"] == 50
assert call("GET", f"{pool}/").json()["data"] == made
changed = call("PUT", pool, json={"description": None}).json()["data"]
assert (changed["name"], changed["description"]) == ("Orders & more", None)

report = call("POST", f"{pool}/deduped-data/import", files={"deduped_data_file": ("values.csv", FILE.encode(), "text/csv")})
assert report.json()["added"] == 3
call("POST", f"{pool}/deduped-data/import", json={"deduped_data_file": "value,entity_type_id\nA-4,37\n"})
call("POST", f"{pool}/deduped-data/import", data={"deduped_data_file": "value,entity_type_id\n\"A,5\",37\n"})

# Follow the links from page to page.
seen, url = [], f"{base}{pool}/deduped-data/?per_page=2&sort=-id"
while url:
    page = session.get(url).json()
    seen += [record["value"] for record in page["data"]]
    url = page["links"]["next"]
assert seen == ["A,5", "A-4", "grün & 100%", "A-2", "A-1"], seen
filtered = call("GET", f"{pool}/deduped-data", params={"filter[entity_type_id][]": [37, 54], "filter[value]": "A,5"}).json()
assert [record["id"] for record in filtered["data"]] == [5]

assert call("GET", f"{pool}/deduped-data/download").text.startswith(FILE)
link = call("GET", f"{pool}/deduped-data/download", headers={"Accept": "application/json"}, params={"filter[value]": "A-2"})
assert session.get(link.json()["url"]).text == "value,entity_type_id\nA-2,47\n"

records = f"{pool}/deduped-data/delete-records"
assert call("DELETE", records, json={"ids": [1, 99]}).json()["deleted"] == 1
assert call("DELETE", records, data={"ids[]": [2, 3]}).json()["deleted"] == 2
assert call("DELETE", records, params={"ids": "4,5"}).json()["deleted"] == 2

errors = refused(422, "POST", "/data-pool", json={"description": 5})
assert errors["errors"] == {"name": ["The name field is required."], "description": ["The description field must be a string."]}
refused(404, "GET", "/data-pool/99/deduped-data/")
refused(400, "PUT", pool, data="{", headers={"Content-Type": "application/json"})
assert requests.get(f"{base}/data-pool").status_code == 401
assert call("GET", "/data-pool", headers={"Authorization": f"Bearer {key}"}).json()["meta"]["total"] == 2

for made in (made, form):
    assert call("DELETE", f"/data-pool/{made['id']}").json()["message"]
