// SPDX-License-Identifier: Apache-2.0

// The ports in front of one unit. A unit reaches device TLBs through this list (invalidations, page
// responses), and its invalidations wait here for requests in flight (see InFlightRequest).
//
// Every iteration works on a copy of the list, so ports can be added and removed meanwhile.

internal import Synchronization

final class PortList: Sendable {
  private struct Port: Sendable {
    let inFlight: InFlightRequest
    let deviceTLB: DeviceTLB
  }

  private let ports = Mutex<[Port]>([])

  func add(_ inFlight: InFlightRequest, _ deviceTLB: DeviceTLB) {
    ports.withLock { $0.append(Port(inFlight: inFlight, deviceTLB: deviceTLB)) }
  }

  func remove(_ inFlight: InFlightRequest) {
    ports.withLock { $0.removeAll { $0.inFlight === inFlight } }
  }

  /// Waits for requests that may hold translations of `key` that were just removed.
  /// - Parameter key: `nil` waits for all requests.
  func drain(_ key: InFlightKey?) {
    for port in ports.withLock({ $0 }) { port.inFlight.wait(for: key) }
  }

  /// Waits for requests that may hold translations of `domain` that were just removed.
  /// - Parameter domain: `nil` waits for all requests.
  func drain(_ domain: DomainID?) { drain(domain.map { InFlightKey($0) }) }

  /// Waits for the requests of the selected functions, whichever translations they hold.
  func drain(where isSelected: (RequesterID) -> Bool) {
    forEach(where: isSelected) { inFlight, _ in inFlight.wait(for: nil) }
  }

  /// Removes translations from the device TLBs of the selected functions, and waits for requests
  /// that still use them.
  func invalidateDeviceTLBs(
    _ scope: DeviceTLBScope, pasid: PASID?, where isSelected: (RequesterID) -> Bool
  ) {
    forEach(where: isSelected) { inFlight, deviceTLB in
      deviceTLB.invalidate(scope, pasid: pasid)
      inFlight.wait(for: nil)
    }
  }

  /// Calls `body` for each port whose function is selected.
  func forEach(
    where isSelected: (RequesterID) -> Bool, _ body: (InFlightRequest, DeviceTLB) -> Void
  ) {
    for port in ports.withLock({ $0 }) where isSelected(port.deviceTLB.requester) {
      body(port.inFlight, port.deviceTLB)
    }
  }
}
