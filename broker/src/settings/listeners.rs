//! Listeners: Kafka's `listeners` and `advertised.listeners` lists, down to one plaintext address.

use super::HostPort;

/// The one plaintext address of a Kafka list like `PLAINTEXT://:9092,CONTROLLER://:9093`. Listeners named in
/// `controllers` are left out: the controller is built in. `protocols` maps listener names to security protocols.
pub(super) fn kafka_listener(list: &str, controllers: &str, protocols: &str) -> Result<HostPort, String> {
    let mut found = None;
    for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (name, address) = entry.split_once("://").ok_or_else(|| format!("'{entry}' is not NAME://HOST:PORT"))?;
        if named(controllers, name) {
            continue;
        }
        let protocol = protocol_of(name, protocols);
        if protocol != "PLAINTEXT" {
            return Err(format!("listener {name}: {protocol} is not served yet, only PLAINTEXT"));
        }
        if found.replace(HostPort::parse(address)?).is_some() {
            return Err(format!("'{list}' has several client listeners; one is served"));
        }
    }
    found.ok_or_else(|| format!("'{list}' has no client listener"))
}

fn named(list: &str, name: &str) -> bool {
    list.split(',').any(|entry| entry.trim().eq_ignore_ascii_case(name))
}

fn protocol_of(name: &str, protocols: &str) -> String {
    protocols
        .split(',')
        .filter_map(|pair| pair.split_once(':'))
        .find(|(listener, _)| listener.trim().eq_ignore_ascii_case(name))
        .map_or(name, |(_, protocol)| protocol.trim())
        .to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_listener_is_found_among_kafkas() {
        let stock = "PLAINTEXT://:9092,CONTROLLER://:9093";
        assert_eq!(kafka_listener(stock, "CONTROLLER", "").unwrap().to_string(), ":9092");
        let named = kafka_listener("INSIDE://10.0.0.1:9092", "", "INSIDE:PLAINTEXT,OUT:SSL");
        assert_eq!(named.unwrap().to_string(), "10.0.0.1:9092");
    }

    #[test]
    fn what_is_not_served_is_named() {
        let tls = kafka_listener("SSL://:9093", "", "").unwrap_err();
        assert!(tls.contains("SSL is not served yet"), "{tls}");
        assert!(kafka_listener("PLAINTEXT://:1,B://:2", "", "B:PLAINTEXT").unwrap_err().contains("several"));
        assert!(kafka_listener("CONTROLLER://:9093", "CONTROLLER", "").unwrap_err().contains("no client"));
        assert!(kafka_listener("localhost:9092", "", "").is_err());
    }
}
