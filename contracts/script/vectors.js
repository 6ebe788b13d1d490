// What the compiler made of the interfaces, and what the contracts answered
// (cache/encodings.json of `forge test`), as one file for the C tests.
'use strict';
const { readFileSync } = require('node:fs');
const { join } = require('node:path');

const read = (...path) =>
	JSON.parse(readFileSync(join(__dirname, '..', ...path), 'utf8'));

// "(uint256,address)" of a tuple, the type itself of anything else.
const spell = (type) => type.type.replace(/^tuple/, () =>
	`(${type.components.map(spell).join(',')})`);

function contract(name) {
	const { abi, methodIdentifiers } = read('out', `${name}.sol`, `${name}.json`);
	const signature = (item) => `${item.name}(${item.inputs.map(spell).join(',')})`;
	const functions = {}, members = {}, errors = [], events = [];
	for (const item of abi) {
		if (item.type === 'function')
			functions[signature(item)] = {
				selector: `0x${methodIdentifiers[signature(item)]}`,
				returns: item.outputs.map(spell).join(','),
			};
		if (item.type === 'function' && item.outputs[0]?.type === 'tuple')
			members[item.name] = item.outputs[0].components.map((c) => c.name);
		if (item.type === 'error')
			errors.push(signature(item));
		if (item.type === 'event')
			events.push(signature(item));
	}
	return { functions, members, errors, events };
}

const encodings = Object.entries(read('cache', 'encodings.json'))
	.map(([key, row]) => ({ name: key.slice(2), ...row }));
process.stdout.write(JSON.stringify({
	contracts: {
		KMSRegistry: contract('KMSRegistry'),
		NovaAppRegistry: contract('NovaAppRegistry'),
	},
	encodings,
}, null, ' ') + '\n');
