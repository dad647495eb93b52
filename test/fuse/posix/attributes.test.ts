/**
 * Attributes, owners and permissions on a real mount.
 */
import { access } from './access.js';
import { chmod } from './chmod.js';
import { chown } from './chown.js';
import { fields } from './fields.js';
import { runAreas } from './kit.js';
import { setgid } from './setgid.js';
import { times } from './times.js';

runAreas('attributes', { chmod, chown, times, setgid, access, fields });
