/** A list of a million rows. */
import { mount } from 'svelte';

import '../../src/classes.css';
import List from './List.svelte';

mount(List, { target: document.body });
