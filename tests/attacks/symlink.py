# 1.3 error: a link out of the sandbox
import os

os.symlink('/etc/passwd', '/tmp/link')
open('/tmp/link').read()
os.symlink('/root', '/tmp/home')
os.listdir('/tmp/home')
