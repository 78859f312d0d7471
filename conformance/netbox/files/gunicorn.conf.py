# Copyright The bm-ccm Authors.
# SPDX-License-Identifier: Apache-2.0
#
# The application is loaded once, before the workers are forked: they must not
# share a connection that it opened.
def pre_fork(server, worker):
    from django.db import connections

    connections.close_all()
