#!/usr/bin/env python3
"""Creates the five users of the transcripts through the REST API and prints their ids and tokens as JSON.

  fixtures.py BASE_URL ADMIN_PASSWORD > fixtures.json

alice: one device, primary. bob: no device. carol: one device, not primary. dave: disabled account with a primary
device. erin: two devices, the second primary.
"""
import json
import sys

import requests

base, admin_password = sys.argv[1].rstrip('/'), sys.argv[2]


def call(method, path, token=None, body=None, want=(200, 201, 204)):
    headers = {'Authorization': f'Token {token}'} if token else {}
    r = requests.request(method, base + path, json=body, headers=headers, timeout=10)
    if r.status_code not in want:
        sys.exit(f'{method} {path}: HTTP {r.status_code} {r.text[:300]}')
    return r.json() if r.content else {}


def login(name, password):
    return call('POST', '/api/auth/login', body={'username': name, 'password': password})['token']


root = login('admin', admin_password)
users = {}
for name, devices in (('alice', [True]), ('bob', []), ('carol', [False]), ('dave', [True]), ('erin', [False, True])):
    password = f'{name}-pass-1234'
    uid = call('POST', '/api/users', root, {'username': name, 'password': password})['data']['id']
    primary = None
    for n, is_primary in enumerate(devices):
        d = call('POST', '/api/devices', root, {'name': f'{name} {n}', 'serial': f'{name}-{n}', 'user_id': uid, 'primary': is_primary})['data']['id']
        primary = d if is_primary else primary
    users[name] = {'id': uid, 'username': name, 'password': password, 'token': login(name, password), 'device_id': primary}
call('PATCH', f'/api/users/{users["dave"]["id"]}', root, {'disabled': True})
print(json.dumps({'users': users, 'nonexistent_user_id': 999999}))
