# Copyright The bm-ccm Authors.
# SPDX-License-Identifier: Apache-2.0
#
# NetBox with its static files, which a web server in front would serve.
from django.contrib.staticfiles.handlers import StaticFilesHandler
from netbox.wsgi import application as netbox

application = StaticFilesHandler(netbox)
